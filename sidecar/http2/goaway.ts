import type { Socket } from 'node:net';
import { ErrorCode, FrameType, MAX_STREAM_ID, writeUint32 } from './frame.ts';
import type { FrameWriter } from './writer.ts';

/** How long a peer gets to read our GOAWAY before the socket is destroyed. */
const LINGER_MS = 1_000;

/**
 * The end of a connection from our side (RFC 9113 §6.8).
 *
 *     serving ──shutdown──▶ announced ──our PING came back, or its time is up──▶ final ──last stream ended──▶ closed
 *
 * `announced` sends GOAWAY with the largest id, so that calls which the peer is sending at this moment are still
 * served; `final` names the last stream that will be. An error goes to `final` at once.
 */
export type GoawayState = 'serving' | 'announced' | 'final';

export class Goaway {
  state: GoawayState = 'serving';
  /** Streams above this id are not served; only meaningful in `final`. */
  lastStreamId = MAX_STREAM_ID;

  announce(writer: FrameWriter): void {
    this.state = 'announced';
    writeGoaway(writer, MAX_STREAM_ID, ErrorCode.NO_ERROR, '');
  }

  finish(writer: FrameWriter, lastStreamId: number, code: number, message: string): void {
    this.state = 'final';
    this.lastStreamId = lastStreamId;
    writeGoaway(writer, lastStreamId, code, message);
  }
}

function writeGoaway(writer: FrameWriter, lastStreamId: number, code: number, message: string): void {
  const debug = message.length > 0 ? Buffer.from(message.slice(0, 256), 'latin1') : undefined;
  const at = writer.beginFrame(8 + (debug?.length ?? 0), FrameType.GOAWAY, 0, 0);
  writeUint32(writer.buffer, writeUint32(writer.buffer, at, lastStreamId), code);
  debug?.copy(writer.buffer, at + 8);
}

/** Closes a socket once its peer has had time to read. */
export function endBehindGoaway(socket: Socket): void {
  // A destroy now would answer unread bytes with a TCP reset, and that can overtake the GOAWAY.
  socket.end();
  const linger = setTimeout(() => socket.destroy(), LINGER_MS);
  linger.unref();
  socket.once('close', () => clearTimeout(linger));
}
