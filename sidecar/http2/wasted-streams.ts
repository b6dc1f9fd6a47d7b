import { failureFromReset } from './errors.ts';
import { ErrorCode } from './frame.ts';
import { type LeavingConnection, retire } from './goaway.ts';
import type { Stream } from './streams.ts';

/**
 * Streams that come to nothing by the peer's doing, whichever side resets them: all of them spend one allowance
 * (`flood-guard.ts`). A peer that has used it up is asked to go on with another connection, and the calls that run on this
 * one are not touched; a peer that breaks HTTP/2 itself too often loses the connection.
 */

/** What a spoilt stream costs its connection. */
export interface SpendingConnection extends LeavingConnection {
  readonly closed: boolean;
  /** How often the socket gave us bytes. */
  readonly reads: number;
  closeStream(stream: Stream, resetByUs: boolean): void;
}

/** The peer has reset the stream. */
export function resetByPeer(connection: SpendingConnection, stream: Stream, code: number): void {
  const failure = failureFromReset(code);
  const counted = stream.wasted;
  stream.wasted = true;
  connection.closeStream(stream, false);
  stream.handler.onFailed(stream, failure);
  if (!counted) spend(connection, stream);
}

/**
 * The owner of a stream ends it, or has ended it, for something that the peer has said in it: a message that is too large, a
 * malformed field, a deadline that no answer could keep. The work that was begun for it is given up.
 *
 * @param atOnce it has hardly lived; also where the same read has brought it
 */
export function waste(connection: SpendingConnection, stream: Stream, atOnce: boolean): void {
  if (stream.wasted) return;
  stream.wasted = true;
  spend(connection, stream, atOnce);
}

function spend(connection: SpendingConnection, stream: Stream, atOnce = false): void {
  // A server that resets streams, or spoils them, gets no more of them than it is asked to serve.
  if (connection.role === 'client' || connection.closed) return;
  const within = atOnce || stream.bornInRead === connection.reads;
  // One that has ended in order has earned something.
  const earned = stream.closedInOrder && !stream.unserved;
  if (!connection.flood.cancel(within, earned ? 2 : 1)) retire(connection);
}

/** The peer has made an error in HTTP/2, for which a stream was reset, or refused. */
export function countFault(connection: SpendingConnection, atOnce: boolean): void {
  const { role, flood, owner } = connection;
  const verdict = flood.fault(atOnce);
  if (verdict === 'within' || connection.closed) return;
  if (role === 'client') {
    // Others' calls run here too: they are finished, and no more are begun.
    if (verdict === 'faults') owner.onFaulty?.(connection);
  } else if (verdict === 'faults') {
    const message = 'too many streams had to be reset; keep to the protocol';
    connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
  } else retire(connection);
}
