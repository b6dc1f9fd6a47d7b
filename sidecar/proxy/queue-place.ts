import type { CallerCalls, Queueable } from '../policy/admission-queue.ts';
import type { Caller } from './caller.ts';
import type { LocalReply } from './reasons.ts';

/** A call that asks to come in. */
export interface EnteringCall {
  readonly caller: Caller;
  readonly deadlineMs: number;
  /** Undefined where it has not come in, and does not wait. Written by `admission.ts`. */
  place: QueuePlace | undefined;
  /** Its turn in the queue has come. */
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
  /** When the call came in; 0 while it waits. */
  admittedAtMs = 0;

  constructor(call: EnteringCall) {
    this.call = call;
    this.callerCalls = call.caller.calls;
  }

  get deadlineMs(): number {
    return this.call.deadlineMs;
  }
}
