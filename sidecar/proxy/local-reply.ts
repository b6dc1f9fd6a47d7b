/** Sends an answer of the sidecar's own to the caller. */
import { GOING_AWAY_HEADER } from '../grpc/hop-fields.ts';
import { encodeStatusMessage } from '../grpc/status-message.ts';
import { HeaderList, sizeOf } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { MODEL_FAILURE_HEADER } from '../policy/model-failure.ts';
import { REASONS } from '../policy/reasons.ts';
import type { LocalReply } from './reasons.ts';
import { HTTP_STATUS_HEADER, REASON_HEADER, RETRIES_ENDED_HEADER } from './sidecar-fields.ts';

export const NO_FIELDS = new HeaderList([]);
export const TRAILERS_ONLY = new HeaderList([':status', '200', 'content-type', 'application/grpc']);
const EMPTY = Buffer.alloc(0);

/** The fields of every answer of our own, in Trailers-Only form or as trailers after a response that has begun. */
export function replyFields(reply: LocalReply): string[] {
  const fields = ['grpc-status', String(reply.status), 'grpc-message', encodeStatusMessage(reply.message)];
  fields.push(REASON_HEADER, reply.reason);
  if (reply.upstreamHttpStatus !== undefined)
    fields.push(HTTP_STATUS_HEADER, String(reply.upstreamHttpStatus));
  if (reply.goingAway === true) fields.push(GOING_AWAY_HEADER, '1');
  if (reply.retriesEnded === true) fields.push(RETRIES_ENDED_HEADER, '1');
  if (reply.modelFailure !== undefined) fields.push(MODEL_FAILURE_HEADER, reply.modelFailure);
  if (reply.pushbackMs !== undefined)
    fields.push('grpc-retry-pushback-ms', String(Math.round(reply.pushbackMs)));
  return fields;
}

/**
 * Ends a downstream stream with an answer of our own. A gRPC call gets a Trailers-Only response, or trailers when
 * messages were sent. Another HTTP/2 request gets a status and a line of text, or a reset when the response has begun
 * (a truncated response must not look complete). Messages that wait for a slow reader go first, unless the deadline has
 * passed: a reader that has stopped would keep them in memory, and never learn why the call ended.
 */
export function sendLocalReply(
  stream: Stream,
  reply: LocalReply,
  grpc: boolean,
  responseStarted: boolean,
  method: string,
): void {
  const { connection } = stream;
  if (reply.reason === 'deadline' || reply.reason === 'draining') connection.waiting.discard(stream);
  if (grpc) {
    const list = responseStarted ? NO_FIELDS : TRAILERS_ONLY;
    let fields: readonly string[] = replyFields(reply);
    // The caller's limit of header lists is tiny: send as little as possible.
    if (list.listBytes + sizeOf(fields) > connection.peer.maxHeaderListBytes)
      fields = ['grpc-status', String(reply.status), REASON_HEADER, reply.reason];
    connection.sendHeaders(stream, list, fields, true);
    connection.stopReceiving(stream);
    return;
  }
  if (responseStarted) {
    connection.reset(stream, 2 /* INTERNAL_ERROR */);
    return;
  }
  const body = Buffer.from(`${reply.reason}: ${reply.message}\n`, 'utf8');
  const head = [
    ':status',
    String(reply.httpStatus ?? REASONS[reply.reason].httpStatus),
    'content-type',
    'text/plain; charset=utf-8',
  ];
  head.push('content-length', String(body.length), REASON_HEADER, reply.reason);
  // DATA after the response to HEAD would be a connection error (RFC 9110 §9.3.2).
  const headOnly = method === 'HEAD';
  connection.sendHeaders(stream, new HeaderList(head), undefined, headOnly);
  if (!headOnly) {
    connection.sendData(stream, body, 0, body.length, false);
    connection.sendData(stream, EMPTY, 0, 0, true);
  }
  connection.stopReceiving(stream);
}
