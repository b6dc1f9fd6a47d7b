/** Ends a call before its answer is complete, or its request after that: deadline, silence, shutdown, no caller. */
import { Status, type StatusCode } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import type { Leaving } from '../task/task-store.ts';
import type { CallWith } from './call-facts.ts';
import { replyToDeadline, replyToIdle, replyToUnread } from './failure-reply.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import { type GivenUpCall, giveUp } from './settlement.ts';
import { callerLeft } from './task-follower.ts';

/** The call's deadline no longer applies. */
type AnsweredCall = CallWith<'stream'> & {
  readonly clock: { linger(ms: number): void };
  readonly progress: { linger(): void };
};
type EndingCall = GivenUpCall & CallWith<'role', 'answer'>;
type LateCall = EndingCall & CallWith<'stream' | 'head' | 'response' | 'progress' | 'clock' | 'info'>;
type SilentCall = EndingCall & CallWith<'response' | 'request' | 'progress'>;
/** The call whose caller left. */
type LeftCall = EndingCall &
  CallWith<'stream' | 'progress' | 'clock'> & {
    readonly clock: { stop(): void };
    finish(status: StatusCode): void;
    readonly resumable: { giveUp(): void } | undefined;
    /** Whether the caller may come back. */
    awaitReturn(): boolean;
  };

/** A caller's time to read its socket, and to end its request. */
export const LINGER_MS = 1_000;

/**
 * The caller has the whole answer, but its request has not ended. RST_STREAM NO_ERROR would be correct at once (RFC
 * 9113 §8.1), but some clients drop messages and status when it arrives right behind them, and some servers never send
 * it. So the caller gets time to end its request; the sidecar drops the bytes that it sends in that time.
 */
export function lingerAfterAnswer(call: AnsweredCall): void {
  const { stream } = call;
  // A slow reader still has its deadline, and an answer of our own ends the request by stopReceiving.
  if (!stream.canReceive || stream.stopWhenEnded || stream.queue !== undefined) return;
  call.progress.linger();
  call.clock.linger(LINGER_MS);
}

/** Ends the call because the sidecar stops. The reason "draining" would say that the app has seen nothing of the call. */
export function endForShutdown(call: EndingCall): void {
  const begun = call.attempt?.stream !== undefined || call.role.follower !== undefined;
  giveUp(call, 'shutdown', Status.UNAVAILABLE, true);
  const message = 'the sidecar is shutting down and the call did not end in time; retry';
  call.answer(reply(begun ? 'stream_cut' : 'draining', message));
}

/** The call's deadline passed, or the time to end its request after the answer. */
export function endForDeadline(call: LateCall, nowMs: number): void {
  const { stream } = call;
  if (call.progress.isDone) {
    if (call.progress.isLingering) stream.connection.stopReceiving(stream);
    // The answer is complete but the caller does not read it: the deadline bounds that, too.
    else if (!stream.closed)
      sendLocalReply(stream, replyToUnread(call, nowMs), call.info.grpc, true, call.head.method);
    return;
  }
  const late = replyToDeadline(call, nowMs);
  if (call.role.run?.outlivesDeadline(late) === true) return;
  giveUp(call, 'deadline', Status.DEADLINE_EXCEEDED);
  call.answer(late);
}

/** Neither side has sent anything for the call's idle timeout. */
export function endForSilence(call: SilentCall): void {
  const { attempt, response, role } = call;
  // The sidecar is silent itself, or a caller that does not read keeps the endpoint from sending.
  if (attempt === undefined ? !call.progress.isAwaitingMessage : attempt.ended) return;
  if (response.waits && role.run?.readsAhead !== true) return;
  if (attempt !== undefined && call.tries !== undefined && call.tries.hedging === undefined) {
    call.tries.onAttemptClock(attempt, 'idle');
    return;
  }
  const late = replyToIdle(call);
  giveUp(call, 'idle', Status.DEADLINE_EXCEEDED);
  call.answer(late);
}

/** The caller left: cancels the attempt at once, unless others wait for the task or the caller may come back for it. */
export function endForCaller(call: LeftCall, failure: StreamFailure): void {
  if (call.progress.isDone) {
    call.clock.stop();
    if (failure.kind === 'connection') call.awaitReturn();
    else call.resumable?.giveUp();
    return;
  }
  const { role } = call;
  const { stats } = call.context;
  const leaving = callerLeft(call, failure);
  if (leaving === 'connection_lost' && call.awaitReturn()) return;
  call.resumable?.giveUp();
  if (leaving === 'time_is_up') stats.reject('deadline');
  if (role.run?.outlives(leaving) === true) return;
  role.follower?.leave(leaving);
  if (failure.kind === 'protocol') stats.reject('bad_request');
  if (failure.kind === 'stalled') stats.reject('overloaded');
  endUnheard(call, leaving, failure.kind === 'stalled' ? Status.RESOURCE_EXHAUSTED : Status.CANCELLED);
}

/** The caller has lost its connection, and did not come back in time. */
export function endForReturn(call: LeftCall): void {
  if (call.progress.isDone || call.role.run?.outlives('cancelled') === true) return;
  call.role.follower?.leave('cancelled');
  endUnheard(call, 'cancelled', Status.CANCELLED);
}

/** No caller waits for the task that the call runs. */
export function endUnwanted(call: LeftCall): void {
  if (call.progress.isDone) return;
  const late = call.clock.callersTimeIsUp(call.context.clock());
  endUnheard(call, late ? 'time_is_up' : 'cancelled', Status.CANCELLED);
}

/** Ends the call without an answer, because the caller has left. At the caller's deadline, the deadline ended the call. */
function endUnheard(call: LeftCall, leaving: Leaving, otherwise: StatusCode): void {
  const late = leaving === 'time_is_up';
  const status = late ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
  giveUp(call, late ? 'deadline' : 'cancelled', status, leaving === 'connection_lost');
  if (late) call.progress.explain('deadline');
  call.finish(late ? status : otherwise);
}

/** The inbound call that this one is made for has ended without an answer. @param late its deadline passed */
export function endForOwner(call: LateCall, late: boolean): void {
  if (late) {
    endForDeadline(call, call.context.clock());
    return;
  }
  giveUp(call, 'cancelled', Status.CANCELLED);
  call.answer(reply('caller_gone', 'the call that this one was made for has been given up by its caller'));
}
