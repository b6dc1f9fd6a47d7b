/** Ends a call before its answer is complete, or its request after that: deadline, silence, shutdown. */
import { Status } from '../grpc/status.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { replyToDeadline, replyToIdle, replyToUnread } from './failure-reply.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import { type GivenUpCall, giveUp } from './settlement.ts';

/** The call's deadline no longer applies. */
type AnsweredCall = CallWith<'stream'> & {
  readonly clock: { linger(ms: number): void };
  readonly progress: { linger(): void };
};
type EndingCall = GivenUpCall & CallWith<'role', 'answer'>;
type LateCall = EndingCall & CallWith<'stream' | 'head' | 'response' | 'progress' | 'clock' | 'info'>;
type SilentCall = EndingCall &
  CallWith<'response' | 'request' | 'progress'> & {
    onAttemptClock(attempt: Attempt, clock: 'idle'): void;
  };

/** A caller's time to read what is in its socket, and to end its request. */
export const LINGER_MS = 1_000;

/**
 * The caller has the whole answer, but its request has not ended. RST_STREAM NO_ERROR would be correct at once (RFC
 * 9113 §8.1), but some clients drop messages and status when it arrives right behind them, and some servers never send
 * it. So the caller gets time to end its request; the sidecar drops what it sends in that time.
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
  giveUp(call, 'shutdown', Status.UNAVAILABLE);
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
  if (attempt !== undefined && call.tries.hedging === undefined) {
    call.onAttemptClock(attempt, 'idle');
    return;
  }
  const late = replyToIdle(call);
  giveUp(call, 'idle', Status.DEADLINE_EXCEEDED);
  call.answer(late);
}
