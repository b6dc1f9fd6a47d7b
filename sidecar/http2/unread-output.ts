/** Bounds the output that a peer leaves unread. */
import type { Socket } from 'node:net';
import { ErrorCode } from './frame.ts';
import type { FrameReader } from './frame-reader.ts';
import { type WorkingConnection, workTurns } from './work-turns.ts';
import type { FrameWriter } from './writer.ts';

/** The parts of a connection that show its unread output. */
export interface UnreadOutput {
  readonly socket: { readonly writableLength: number };
  readonly writer: { readonly blocked: boolean };
}

/** The parts of a connection that bounding its unread output needs. */
export interface SendingConnection extends WorkingConnection {
  readonly role: 'server' | 'client';
  readonly socket: Pick<Socket, 'pause' | 'resume' | 'isPaused' | 'writableLength'>;
  readonly writer: FrameWriter;
  readonly reader: Pick<FrameReader, 'heldBytes' | 'workDone'>;
  fail(source: 'peer', code: number, message: string): void;
}

/** Unread output beyond what DATA alone can cause; above it we stop reading from the peer. */
const UNREAD_PAUSE_BYTES = 524_288;
const UNREAD_CLOSE_BYTES = 4 * UNREAD_PAUSE_BYTES;

/**
 * Bounds the output that a peer leaves unread. DATA waits while the socket is full, but answers to PING and SETTINGS, and
 * calls that fail at once, do not. We do not read from a downstream that does not read them. We close an upstream that
 * requests so many answers: if both sides stopped reading, neither would ever continue. Requests are no answers: an
 * upstream that reads them slowly receives no more streams, and keeps its present ones.
 */
export function boundUnreadOutput(connection: SendingConnection): void {
  const { role, socket, writer } = connection;
  if (role === 'server') {
    if (socket.writableLength > UNREAD_PAUSE_BYTES) socket.pause();
  } else if (socket.writableLength > UNREAD_CLOSE_BYTES && writer.controlBytes > UNREAD_PAUSE_BYTES) {
    connection.fail(
      'peer',
      ErrorCode.ENHANCE_YOUR_CALM,
      'the peer does not read the answers that it requests',
    );
  }
}

/** Whether the peer leaves so much output unread that it shall receive no new streams. */
export function leavesMuchUnread({ socket, writer }: UnreadOutput): boolean {
  return writer.blocked && socket.writableLength > UNREAD_PAUSE_BYTES;
}

/** Resumes reading, after the peer left too much unread, or other connections had their turns. */
export function readAgain(connection: SendingConnection): void {
  const { closed, reader, role, socket } = connection;
  if (closed || (role === 'server' && leavesMuchUnread(connection))) return;
  if (reader.workDone) workTurns.add(connection);
  else if (socket.isPaused()) socket.resume();
}
