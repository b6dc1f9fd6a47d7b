import type { Socket } from 'node:net';
import type { ConnectionOwner } from './connection-owner.ts';
import { ConnectionError, failureFromGoaway, type StreamFailure } from './errors.ts';
import type { FloodGuard } from './flood-guard.ts';
import { ErrorCode, FrameType, MAX_STREAM_ID, writeUint32 } from './frame.ts';
import type { FrameReader } from './frame-reader.ts';
import type { FrameWriter } from './writer.ts';

/** How long a peer gets to read our GOAWAY before the socket is destroyed. */
const LINGER_MS = 1_000;

/** Writes a GOAWAY frame. @param message its debug data, of which at most 256 characters are sent */
export function writeGoaway(writer: FrameWriter, lastStreamId: number, code: number, message: string): void {
  const debug = message.length > 0 ? Buffer.from(message.slice(0, 256), 'latin1') : undefined;
  const at = writer.beginFrame(8 + (debug?.length ?? 0), FrameType.GOAWAY, 0, 0);
  writeUint32(writer.buffer, writeUint32(writer.buffer, at, lastStreamId), code);
  debug?.copy(writer.buffer, at + 8);
}

/** What ending a connection in order needs of it. */
export interface LeavingConnection {
  readonly role: 'server' | 'client';
  readonly owner: ConnectionOwner<LeavingConnection>;
  readonly writer: FrameWriter;
  readonly flood: FloodGuard;
  readonly reader: Pick<FrameReader, 'spend'>;
  readonly control: { ping(onPong: () => void): void };
  readonly streams: { readonly size: number };
  readonly isOpen: boolean;
  readonly isAnnounced: boolean;
  readonly isLeaving: boolean;
  readonly lastPeerStreamId: number;
  lastServedStreamId: number;
  peerGoawayCode: number;
  markAnnounced(): void;
  markLeaving(): void;
  finishShutdown(): void;
  failStreams(failure: StreamFailure, aboveId: number): void;
  fail(source: 'peer', code: number, message: string): void;
  close(error: ConnectionError): void;
}

/** The first step of an orderly end; a client, which has no calls to refuse, needs no other. */
export function beginShutdown(connection: LeavingConnection): void {
  if (!connection.isOpen) return;
  if (connection.role === 'server') {
    connection.markAnnounced();
    writeGoaway(connection.writer, MAX_STREAM_ID, ErrorCode.NO_ERROR, '');
    connection.control.ping(() => connection.finishShutdown());
  } else {
    connection.markLeaving();
    closeWhenDone(connection);
  }
}

/** The second step: no stream that begins from now on is served; those that run go on. */
export function endShutdown(connection: LeavingConnection): void {
  const { isAnnounced, writer, lastPeerStreamId } = connection;
  if (!isAnnounced) return;
  connection.markLeaving();
  connection.lastServedStreamId = lastPeerStreamId;
  writeGoaway(writer, lastPeerStreamId, ErrorCode.NO_ERROR, '');
  closeWhenDone(connection);
}

/** Closes the connection that is leaving, behind its last stream. */
export function closeWhenDone(connection: LeavingConnection): void {
  if (!connection.isLeaving || connection.streams.size > 0) return;
  connection.close(new ConnectionError('local', ErrorCode.NO_ERROR, 'the connection was shut down'));
}

/**
 * The peer's GOAWAY: it takes no new streams, and none of those above this id. A client leaves. A server's peer only says that
 * it takes no pushed streams, of which there are none.
 */
export function obeyGoaway(
  connection: LeavingConnection,
  lastStreamId: number,
  code: number,
  debug: string,
): void {
  const isClient = connection.role === 'client';
  if (isClient) connection.markLeaving();
  connection.peerGoawayCode = code;
  connection.reader.spend(connection.streams.size);
  connection.owner.onGoaway(connection, code, debug);
  if (isClient) connection.failStreams(failureFromGoaway(code), lastStreamId);
  closeWhenDone(connection);
}

/**
 * More streams came to nothing than may on one connection (`FloodGuard.cancel`): the peer is asked to go on with another one,
 * and the calls that run here, whoever makes them, are not touched. It is told so with NO_ERROR, because some libraries end
 * all calls at any other code; but a loop that begins calls and cancels them in one breath has none to lose.
 */
export function retire(connection: LeavingConnection): void {
  const { flood, isAnnounced, streams } = connection;
  if (streams.size === 0 && flood.cancelsAtOnce) {
    connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, 'too many reset streams; let calls finish');
    return;
  }
  if (isAnnounced) endShutdown(connection);
  else beginShutdown(connection);
  flood.allowCancels();
}

/** Closes a socket once its peer has had time to read. */
export function endBehindGoaway(socket: Socket): void {
  // A destroy now would answer unread bytes with a TCP reset, and that can overtake the GOAWAY.
  socket.end();
  const linger = setTimeout(() => socket.destroy(), LINGER_MS);
  linger.unref();
  socket.once('close', () => clearTimeout(linger));
}
