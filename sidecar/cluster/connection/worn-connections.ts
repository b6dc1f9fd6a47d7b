/** Decides when a connection has reset so many streams that the pool should replace it. */
import type { Connection } from '../../http2/connection.ts';

/**
 * Callers that cancel make us reset streams, and servers close a connection that resets too many (Envoy at 500, nghttp2 at
 * 1,000), with the calls of others that share it. So the pool replaces a connection that has reset this many.
 */
const RESETS_MAX = 300;
/** All open streams may be reset at once. When they and the resets add up to this many, the pool opens another connection. */
const RESETS_SAFE = 500;
/** From this sum on, calls wait for the new connection. */
const RESETS_SPENT = 800;

/** The connection has reset so many streams that another should replace it. */
export function isReset({ resetsSent }: Connection): boolean {
  return resetsSent >= RESETS_MAX;
}

/** The pool should open new streams on another connection, if it can have one. */
export function isWorn({ resetsSent, streams }: Connection): boolean {
  return resetsSent >= RESETS_MAX || resetsSent + streams.size >= RESETS_SAFE;
}

/** So many streams could be reset that the peer may close the connection. */
export function isSpent({ resetsSent, streams }: Connection): boolean {
  return resetsSent + streams.size >= RESETS_SPENT;
}

/** Counts the connections that need no replacement. */
export function freshCount(connections: readonly Connection[]): number {
  let count = 0;
  for (const connection of connections) if (!isReset(connection)) count++;
  return count;
}
