import type { Connection } from '../../http2/connection.ts';

/**
 * Callers that cancel make us reset streams, and servers end a connection that resets too many (Envoy at 500, nghttp2 at
 * 1,000): with it the calls of others, who share it. One that has reset this many is replaced.
 */
const RESETS_MAX = 300;
/** Open streams may be reset as well, all at once: count them, and open another connection from this many on. */
const RESETS_SAFE = 500;
/** And from this many on calls wait for it, while it is being made. */
const RESETS_SPENT = 800;

/** It has reset so many streams that another one should take its place. */
export function isReset({ resetsSent }: Connection): boolean {
  return resetsSent >= RESETS_MAX;
}

/** No more streams should be opened on it, if another one is to be had. */
export function isWorn({ resetsSent, streams }: Connection): boolean {
  return resetsSent >= RESETS_MAX || resetsSent + streams.size >= RESETS_SAFE;
}

/** So many could be reset on it that its peer may end it. */
export function isSpent({ resetsSent, streams }: Connection): boolean {
  return resetsSent + streams.size >= RESETS_SPENT;
}

/** Without those that are to be replaced. */
export function freshCount(connections: readonly Connection[]): number {
  let count = 0;
  for (const connection of connections) if (!isReset(connection)) count++;
  return count;
}
