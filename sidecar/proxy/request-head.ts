import { formatTimeout } from '../grpc/timeout.ts';
import type { Stream } from '../http2/streams.ts';
import type { Call } from './call.ts';

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
  if (deadlineMs === 0) {
    connection.sendHeaders(stream, call.list, undefined, endStream);
    return;
  }
  const nowMs = call.context.clock();
  if (nowMs - call.startedAtMs >= 1) {
    const left = formatTimeout(deadlineMs - nowMs);
    connection.sendHeaders(stream, info.withoutTimeout(), ['grpc-timeout', left], endStream);
  } else if (info.timeoutMs > 0 && (configuredTimeoutMs === 0 || info.timeoutMs <= configuredTimeoutMs)) {
    // No millisecond has passed: the caller's own header still says what is left.
    connection.sendHeaders(stream, call.list, undefined, endStream);
  } else {
    connection.sendHeaders(stream, info.withoutTimeout(), timeoutExtra(configuredTimeoutMs), endStream);
  }
}
