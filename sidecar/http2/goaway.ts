/** Sends GOAWAY, and ends a connection in the two steps of RFC 9113 §6.8. */
import type { Socket } from 'node:net';
import type { ConnectionOwner } from './connection-owner.ts';
import { ConnectionError, failureFromGoaway, type StreamFailure } from './errors.ts';
import { ErrorCode, FrameType, MAX_STREAM_ID, writeUint32 } from './frame.ts';
import type { FrameReader } from './frame-reader.ts';
import type { FrameWriter } from './writer.ts';

/** The time that a peer has to read our GOAWAY before we destroy the socket. */
const LINGER_MS = 1_000;

/** Writes a GOAWAY frame. @param message the debug data, cut after 256 characters */
export function writeGoaway(writer: FrameWriter, lastStreamId: number, code: number, message: string): void {
  const debug = message.length > 0 ? Buffer.from(message.slice(0, 256), 'latin1') : undefined;
  const at = writer.beginFrame(8 + (debug?.length ?? 0), FrameType.GOAWAY, 0, 0);
  writeUint32(writer.buffer, writeUint32(writer.buffer, at, lastStreamId), code);
  debug?.copy(writer.buffer, at + 8);
}

/** The parts of a connection that its orderly end needs. */
export interface LeavingConnection {
  readonly role: 'server' | 'client';
  readonly owner: ConnectionOwner<LeavingConnection>;
  readonly writer: FrameWriter;
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
  failStreams(failure: StreamFailure, aboveId: number): void;
  close(error: ConnectionError): void;
}

/** Takes the first step of an orderly end. A client, which refuses no calls, needs no second one. */
export function beginShutdown(connection: LeavingConnection): void {
  if (!connection.isOpen) return;
  if (connection.role === 'server') {
    connection.markAnnounced();
    writeGoaway(connection.writer, MAX_STREAM_ID, ErrorCode.NO_ERROR, '');
    connection.control.ping(() => endShutdown(connection));
  } else {
    connection.markLeaving();
    closeWhenDone(connection);
  }
}

/** Takes the second step: from now on the connection serves no new stream; running streams continue. */
export function endShutdown(connection: LeavingConnection): void {
  const { isAnnounced, writer, lastPeerStreamId } = connection;
  if (!isAnnounced) return;
  connection.markLeaving();
  connection.lastServedStreamId = lastPeerStreamId;
  writeGoaway(writer, lastPeerStreamId, ErrorCode.NO_ERROR, '');
  closeWhenDone(connection);
}

/** Closes a leaving connection that has no streams left. */
export function closeWhenDone(connection: LeavingConnection): void {
  if (!connection.isLeaving || connection.streams.size > 0) return;
  connection.close(new ConnectionError('local', ErrorCode.NO_ERROR, 'the connection was shut down'));
}

/**
 * Acts on the peer's GOAWAY: the peer accepts no new streams, and has not processed the streams above this id. A client
 * leaves, and fails those streams. To a server it only means that the client accepts no pushed streams, and we push none.
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

/** Closes a socket after its peer has had time to read. */
export function endBehindGoaway(socket: Socket): void {
  // Destroying it now would answer unread bytes with a TCP reset, which can overtake the GOAWAY.
  socket.end();
  const linger = setTimeout(() => socket.destroy(), LINGER_MS);
  linger.unref();
  socket.once('close', () => clearTimeout(linger));
}
