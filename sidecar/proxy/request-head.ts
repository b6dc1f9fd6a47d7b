import { formatTimeout } from '../grpc/timeout.ts';
import type { Stream } from '../http2/streams.ts';
import { previousAttemptsHeader } from '../policy/pushback.ts';
import type { Call } from './call.ts';
import { PREVIOUS_ATTEMPTS } from './request-info.ts';

/** The header for a whole configured timeout, made once for each that is in use. */
const timeoutExtras = new Map<number, readonly string[]>();
const TIMEOUT_EXTRAS_MAX = 100;

function timeoutExtra(timeoutMs: number): readonly string[] {
  let extra = timeoutExtras.get(timeoutMs);
  if (extra === undefined) {
    if (timeoutExtras.size >= TIMEOUT_EXTRAS_MAX) timeoutExtras.clear();
    extra = ['grpc-timeout', formatTimeout(timeoutMs)];
    timeoutExtras.set(timeoutMs, extra);
  }
  return extra;
}

/** Sends a call's head upstream, with what is left of its time as `grpc-timeout` (PROTOCOL-HTTP2, "Timeout"). */
export function sendRequestHead(call: Call, stream: Stream, endStream: boolean): void {
  const { connection } = stream;
  const { info, deadlineMs, configuredTimeoutMs } = call;
  const ownAttempts = call.attempts - 1 - call.transparentRetries;
  if (ownAttempts > 0) {
    connection.sendHeaders(stream, info.withoutVarying(), retryExtra(call, ownAttempts), endStream);
    return;
  }
  if (deadlineMs === 0) {
    connection.sendHeaders(stream, call.list, undefined, endStream);
    return;
  }
  const nowMs = call.context.clock();
  const early = nowMs - call.startedAtMs < 1;
  if (early && info.timeoutMs > 0 && (configuredTimeoutMs === 0 || info.timeoutMs <= configuredTimeoutMs)) {
    // No millisecond has passed: the caller's own header still says what is left.
    connection.sendHeaders(stream, call.list, undefined, endStream);
  } else if (info.previousAttempts > 0) {
    connection.sendHeaders(stream, info.withoutVarying(), retryExtra(call, 0), endStream);
  } else if (early) {
    connection.sendHeaders(stream, info.withoutVarying(), timeoutExtra(configuredTimeoutMs), endStream);
  } else {
    const left = formatTimeout(deadlineMs - nowMs);
    connection.sendHeaders(stream, info.withoutVarying(), ['grpc-timeout', left], endStream);
  }
}

/** What is left of the time, and how many attempts came before (gRPC proposal A6). */
function retryExtra(call: Call, ownAttempts: number): string[] {
  const extra: string[] = [];
  const previous = previousAttemptsHeader(call.info.previousAttempts, ownAttempts);
  if (previous !== undefined) extra.push(PREVIOUS_ATTEMPTS, previous);
  if (call.deadlineMs > 0) extra.push('grpc-timeout', formatTimeout(call.deadlineMs - call.context.clock()));
  return extra;
}
