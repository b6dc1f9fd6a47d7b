/** The place of a call on its listener, and in the queue for it. */
import type { CallerCalls, Queueable } from '../policy/admission-queue.ts';
import type { PlacedFacts } from './call-facts.ts';
import type { Caller } from './caller.ts';
import type { LocalReply } from './reasons.ts';

/** A call that asks to be admitted. */
export interface EnteringCall extends PlacedFacts {
  readonly caller: Caller;
  readonly clock: { readonly deadlineMs: number };
  /** Undefined for a call that is neither admitted nor queued. `admission.ts` writes it. */
  place: QueuePlace | undefined;
  /** The call's turn in the queue came. */
  onAdmitted(): void;
  answer(reply: LocalReply): void;
}

/** The place that a call has, or waits for, on its listener. `admission.ts` and its queue write it. */
export class QueuePlace implements Queueable {
  readonly call: EnteringCall;
  readonly callerCalls: CallerCalls;
  queueOlder: Queueable | undefined = undefined;
  queueNewer: Queueable | undefined = undefined;
  queuedAtMs = Number.NaN;
  queueTurn = 0;
  /** When the call was admitted; 0 while it waits. */
  admittedAtMs = 0;

  constructor(call: EnteringCall) {
    this.call = call;
    this.callerCalls = call.caller.calls;
  }

  get deadlineMs(): number {
    return this.call.clock.deadlineMs;
  }
}
