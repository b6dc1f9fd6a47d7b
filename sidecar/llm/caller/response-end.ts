/** When a caller's response is over, over HTTP/1.1 or HTTP/2. */
import type { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { Http2ServerResponse } from 'node:http2';

/**
 * Emits `close` once the answer has left, or can't leave any more. Over HTTP/2 that is the stream: Node's response to HEAD
 * emits nothing when the client resets its request before the answer.
 */
export function endOf(response: ServerResponse | Http2ServerResponse): EventEmitter {
  return (response as Partial<Http2ServerResponse>).stream ?? response;
}
