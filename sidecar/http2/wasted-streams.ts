/** Ends connections whose peers waste too many streams. */
import { failureFromReset } from './errors.ts';
import type { FloodGuard } from './flood-guard.ts';
import { ErrorCode } from './frame.ts';
import { beginShutdown, endShutdown, type LeavingConnection } from './goaway.ts';
import type { Stream } from './streams.ts';

/**
 * Counts wasted streams: those that end without a result because of the peer, whichever side resets them. All of them spend
 * one allowance (`flood-guard.ts`). A peer that has used it up receives GOAWAY and continues on another connection, while its
 * running calls finish here. A peer that breaks HTTP/2 itself too often loses the connection.
 */

/** The parts of a connection that counting wasted streams needs. */
export interface SpendingConnection extends LeavingConnection {
  readonly flood: FloodGuard;
  readonly closed: boolean;
  /** The number of reads from the socket. */
  readonly reads: number;
  fail(source: 'peer', code: number, message: string): void;
  closeStream(stream: Stream, resetByUs: boolean): void;
}

/** Closes a stream that the peer has reset. */
export function resetByPeer(connection: SpendingConnection, stream: Stream, code: number): void {
  const failure = failureFromReset(code);
  const counted = stream.wasted;
  stream.wasted = true;
  connection.closeStream(stream, false);
  stream.handler.onFailed(stream, failure);
  if (!counted) spend(connection, stream);
}

/**
 * Counts a stream that its owner ends, or has ended, because of its content: a message that is too large, a malformed field,
 * a deadline that no answer can meet. The owner gives up the work that it has begun for the stream.
 *
 * @param atOnce whether the stream ended right after it began; it always has if the same read brought it
 */
export function waste(connection: SpendingConnection, stream: Stream, atOnce: boolean): void {
  if (stream.wasted) return;
  stream.wasted = true;
  spend(connection, stream, atOnce);
}

function spend(connection: SpendingConnection, stream: Stream, atOnce = false): void {
  // A server can waste no more streams than we open.
  if (connection.role === 'client' || connection.closed) return;
  const within = atOnce || stream.bornInRead === connection.reads;
  // A stream that ended in order has earned one token, which this takes back.
  const earned = stream.closedInOrder && !stream.unserved;
  if (!connection.flood.cancel(within, earned ? 2 : 1)) retire(connection);
}

/** Counts a stream that we have reset or refused for an HTTP/2 error of the peer. */
export function countFault(connection: SpendingConnection, atOnce: boolean): void {
  const { role, flood, owner } = connection;
  const verdict = flood.fault(atOnce);
  if (verdict === 'within' || connection.closed) return;
  if (role === 'client') {
    // Calls of other callers run here, too: they finish, and no new ones begin.
    if (verdict === 'faults') owner.onFaulty?.(connection);
  } else if (verdict === 'faults') {
    const message = 'too many streams had to be reset; keep to the protocol';
    connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
  } else retire(connection);
}

/**
 * Sends GOAWAY, so that the peer continues on another connection, because it has wasted more streams than one connection allows
 * (`FloodGuard.cancel`). Running calls continue: GOAWAY has NO_ERROR, because some libraries end all calls at any other code. A
 * peer that only begins calls and cancels them at once has no calls to lose, so its connection ends.
 */
function retire(connection: SpendingConnection): void {
  const { flood, isAnnounced, streams } = connection;
  if (streams.size === 0 && flood.cancelsAtOnce) {
    connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, 'too many reset streams; let calls finish');
    return;
  }
  if (isAnnounced) endShutdown(connection);
  else beginShutdown(connection);
  flood.allowCancels();
}
