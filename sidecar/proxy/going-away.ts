import { ErrorCode } from '../http2/frame.ts';
import type { StreamConnection } from '../http2/streams.ts';
import { endsWithConnection } from '../policy/verdict.ts';
import type { Attempt } from './attempt.ts';

/**
 * What ends on a connection that its peer has said GOAWAY on, in order, is one event of going away: a server that ends its
 * connections at a certain age ends their streams some time after (C-core with UNAVAILABLE, others by closing), and a pod
 * that stops does so, too. It proves nothing of the endpoint. A stream that was answered has seen it work. Of those that
 * were not, one for each connection counts as it is: an endpoint that only goes away must be found as well.
 */

/** Connections that one has been counted of. */
const counted = new WeakSet<StreamConnection>();

/** Whether the attempt's end is a part of its connection's going away. */
export function goesAway({ stream, answered }: Attempt): boolean {
  const connection = stream?.connection;
  return connection !== undefined && isGoingAway(connection) && (answered || counted.has(connection));
}

/** To be told of an attempt that has been judged. */
export function countGoingAway({ stream, verdict, goingAway }: Attempt): void {
  if (goingAway || verdict.outcome !== 'failure' || stream === undefined) return;
  if (isGoingAway(stream.connection) && endsWithConnection(verdict)) counted.add(stream.connection);
}

/** ENHANCE_YOUR_CALM: it is our own PINGs or resets that were too many. */
function isGoingAway({ peerGoawayCode }: StreamConnection): boolean {
  return peerGoawayCode === ErrorCode.NO_ERROR || peerGoawayCode === ErrorCode.ENHANCE_YOUR_CALM;
}
