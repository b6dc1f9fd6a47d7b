import type { Socket } from 'node:net';
import { ErrorCode } from './frame.ts';
import type { FrameReader } from './frame-reader.ts';
import { type WorkingConnection, workTurns } from './work-turns.ts';
import type { FrameWriter } from './writer.ts';

/** A connection, as far as it has output that the peer leaves unread. */
export interface UnreadOutput {
  readonly socket: { readonly writableLength: number };
  readonly writer: { readonly blocked: boolean };
}

/** What bounding that output needs of a connection. */
export interface SendingConnection extends WorkingConnection {
  readonly role: 'server' | 'client';
  readonly socket: Pick<Socket, 'pause' | 'resume' | 'isPaused' | 'writableLength'>;
  readonly writer: FrameWriter;
  readonly reader: Pick<FrameReader, 'heldBytes' | 'workDone'>;
  fail(source: 'peer', code: number, message: string): void;
}

/** Output which the peer has not read, above what DATA alone may come to: where to stop taking more from it. */
const UNREAD_PAUSE_BYTES = 524_288;
const UNREAD_CLOSE_BYTES = 4 * UNREAD_PAUSE_BYTES;

/**
 * DATA waits while the socket takes no more, but answers that a peer asks for with PING, SETTINGS or calls that
 * fail at once do not. A downstream that does not read them is not read either until it does. An upstream that
 * asks for so many is closed: if both ends of a connection stopped reading, neither would ever begin again. Requests
 * that wait for it are no answers: an upstream that is slow to read them gets no more streams, and keeps those it has.
 */
export function boundUnreadOutput(connection: SendingConnection): void {
  const { role, socket, writer } = connection;
  if (role === 'server') {
    if (socket.writableLength > UNREAD_PAUSE_BYTES) socket.pause();
  } else if (socket.writableLength > UNREAD_CLOSE_BYTES && writer.controlBytes > UNREAD_PAUSE_BYTES) {
    connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, 'the peer does not read the answers it asks for');
  }
}

/** No new streams for a peer that leaves much of what was sent unread. */
export function leavesMuchUnread({ socket, writer }: UnreadOutput): boolean {
  return writer.blocked && socket.writableLength > UNREAD_PAUSE_BYTES;
}

/** Reads again what was not read while the peer left too much unread, or while other connections had their turns. */
export function readAgain(connection: SendingConnection): void {
  const { closed, reader, role, socket } = connection;
  if (closed || (role === 'server' && leavesMuchUnread(connection))) return;
  if (reader.workDone) workTurns.add(connection);
  else if (socket.isPaused()) socket.resume();
}
