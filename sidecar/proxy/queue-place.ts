/** The place of a call on its listener, and in the queue for it. */
import type { StatusCode } from '../grpc/status.ts';
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

/** What gave a call its place, and takes it back. */
export interface PlaceGiver {
  /** The agent type whose places these are; '' for all agents that have none of their own. */
  readonly agentType: string;
  /** The call ended with this status. */
  leave(place: QueuePlace, status: StatusCode, nowMs: number): void;
}

/** The place that a call has, or waits for, on its listener. `admission.ts` and its queue write it. */
export class QueuePlace implements Queueable {
  readonly call: EnteringCall;
  private readonly giver: PlaceGiver;
  readonly callerCalls: CallerCalls;
  queueOlder: Queueable | undefined = undefined;
  queueNewer: Queueable | undefined = undefined;
  queuedAtMs = Number.NaN;
  queueTurn = 0;
  /** When the call was admitted; 0 while it waits. */
  admittedAtMs = 0;

  constructor(call: EnteringCall, giver: PlaceGiver) {
    this.call = call;
    this.giver = giver;
    this.callerCalls = call.caller.callsOf(giver.agentType);
  }

  /** The call ended with this status: gives back the place that it held or waited for. */
  giveBack(status: StatusCode, nowMs: number): void {
    this.giver.leave(this, status, nowMs);
  }

  get deadlineMs(): number {
    return this.call.clock.deadlineMs;
  }
}
