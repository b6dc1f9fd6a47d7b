/** Counts all ends with a connection that goes away as one event. */
import { ErrorCode } from '../http2/frame.ts';
import type { StreamConnection } from '../http2/streams.ts';
import { endsWithConnection } from '../policy/verdict.ts';
import type { Attempt } from './attempt.ts';

/**
 * After a peer has sent a graceful GOAWAY, all that ends on its connection is one event of going away. A server that
 * closes its connections at a certain age ends their streams some time later (C-core with UNAVAILABLE, others by
 * closing the connection), and so does a pod that stops. This proves nothing about the endpoint. A stream that was
 * answered saw the endpoint work. Of the streams without an answer, one for each connection counts normally: an
 * endpoint that only goes away must be found, too.
 */

/** The connections of which one stream was counted. */
const counted = new WeakSet<StreamConnection>();

/** Whether the attempt ended because its connection is going away. */
export function goesAway({ stream, answered }: Attempt): boolean {
  const connection = stream?.connection;
  return connection !== undefined && isGoingAway(connection) && (answered || counted.has(connection));
}

/** Counts an attempt; call it after the verdict. */
export function countGoingAway({ stream, verdict, goingAway }: Attempt): void {
  if (goingAway || verdict.outcome !== 'failure' || stream === undefined) return;
  if (isGoingAway(stream.connection) && endsWithConnection(verdict)) counted.add(stream.connection);
}

/** Exclude ENHANCE_YOUR_CALM: our own PINGs or resets were too many. */
function isGoingAway({ peerGoawayCode }: StreamConnection): boolean {
  return peerGoawayCode === ErrorCode.NO_ERROR || peerGoawayCode === ErrorCode.ENHANCE_YOUR_CALM;
}
