import type { Timer } from '../clock/timer-wheel.ts';
import { Status } from '../grpc/status.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { replyToDeadline, replyToIdle, replyToUnread } from './failure-reply.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import { type GivenUpCall, giveUp } from './settlement.ts';

/** Its own timer is used once more: the call's deadline has done its work. */
type AnsweredCall = Timer & CallWith<'stream' | 'context'> & { lingering: boolean };
type EndingCall = GivenUpCall & CallWith<'follower', 'answer'>;
type LateCall = EndingCall &
  CallWith<'stream' | 'head' | 'response' | 'done' | 'allowedMs' | 'info'> & { readonly lingering: boolean };
type SilentCall = EndingCall &
  CallWith<'response' | 'awaitingMessage'> & {
    onAttemptClock(attempt: Attempt, clock: 'idle'): void;
  };

/** As long as a caller needs to read what is in its socket, and to end its request by itself. */
export const LINGER_MS = 1_000;

/**
 * The caller has its whole answer, and its request has not ended. RST_STREAM NO_ERROR would be in order at once
 * (RFC 9113 §8.1), but there are clients that drop messages and status when it comes right behind them, and servers
 * that never send it. So the caller has time to end its request; what it sends meanwhile is dropped.
 */
export function lingerAfterAnswer(call: AnsweredCall): void {
  const { stream, context } = call;
  // A slow reader has its deadline first; an answer of ours has its own way (stopReceiving).
  if (stream.closed || stream.remoteEnded || stream.stopWhenEnded || stream.queue !== undefined) return;
  call.lingering = true;
  context.wheel.arm(call, context.clock() + LINGER_MS);
}

/** The sidecar stops. "Draining" would say that the app has seen nothing of the call. */
export function endForShutdown(call: EndingCall): void {
  const begun = call.attempt?.stream !== undefined || call.follower !== undefined;
  giveUp(call, 'shutdown', Status.UNAVAILABLE);
  const message = 'the sidecar is shutting down and the call did not end in time; retry';
  call.answer(reply(begun ? 'stream_cut' : 'draining', message));
}

/** The call's time is up, or the time that its caller has for what comes behind the answer. */
export function endForDeadline(call: LateCall, nowMs: number): void {
  const { stream } = call;
  if (call.done) {
    if (call.lingering) stream.connection.stopReceiving(stream);
    // The answer is complete but its reader does not take it: the deadline is for that too.
    else if (!stream.closed)
      sendLocalReply(stream, replyToUnread(call, nowMs), call.info.grpc, true, call.head.method);
    return;
  }
  const late = replyToDeadline(call, nowMs);
  if (call.response.run?.outlivesDeadline(late) === true) return;
  giveUp(call, 'deadline', Status.DEADLINE_EXCEEDED);
  call.answer(late);
}

/** Neither side has sent anything for as long as the call's idle clock says. */
export function endForSilence(call: SilentCall): void {
  const { attempt, response } = call;
  // The silence is ours, or the caller's who does not read, so that the endpoint may not send.
  if (attempt === undefined ? !call.awaitingMessage : attempt.ended) return;
  if (response.waits && response.run?.readsAhead !== true) return;
  if (attempt !== undefined && call.tries.hedging === undefined) {
    call.onAttemptClock(attempt, 'idle');
    return;
  }
  const late = replyToIdle(call);
  giveUp(call, 'idle', Status.DEADLINE_EXCEEDED);
  call.answer(late);
}
