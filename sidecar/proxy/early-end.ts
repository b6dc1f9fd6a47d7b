import type { Timer } from '../clock/timer-wheel.ts';
import { Status } from '../grpc/status.ts';
import type { CallWith } from './call-facts.ts';
import { reply } from './reasons.ts';
import { type GivenUpCall, giveUp } from './settlement.ts';

/** Its own timer is used once more: the call's deadline has done its work. */
type AnsweredCall = Timer & CallWith<'stream' | 'context'> & { lingering: boolean };
type EndingCall = GivenUpCall & CallWith<'follower', 'answer'>;

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
