import { Flag, FrameType, MAX_WINDOW_BYTES } from './frame.ts';
import type { SendQueue } from './send-queue.ts';
import type { Stream } from './streams.ts';
import type { FrameWriter } from './writer.ts';

/** One turn of a stream while several wait: keeps a large answer from starving small ones. */
const TURN_BYTES = 16_384;
/** Output gathered beyond this is handed to the socket before more is written, so that `blocked` is true in time. */
const GATHER_MAX_BYTES = 65_536;

/** What sending needs of its connection. */
export interface SendSide {
  readonly writer: FrameWriter;
  sendWindow: number;
  maxFrameBytes: number;
  /** So many bytes of a stream's queue went out in one turn. */
  onTurn(bytes: number): void;
  /** The queue of a stream went out to its end: send the trailers, close the stream, tell the handler. */
  onQueueSent(stream: Stream, queue: SendQueue): void;
}

/**
 * Streams whose DATA waits for a window (RFC 9113 §5.2) or for the socket. A slow reader waits here and nowhere
 * else: its connection, and its source's connection, go on.
 */
export class WaitingStreams {
  private readonly streams = new Set<Stream>();

  add(stream: Stream): void {
    this.streams.add(stream);
  }

  delete(stream: Stream): void {
    this.streams.delete(stream);
  }

  get size(): number {
    return this.streams.size;
  }

  /** Forgets what waits on a stream: its reader took too long. */
  discard(stream: Stream): void {
    this.streams.delete(stream);
    stream.queue = undefined;
  }

  /**
   * Writes what the windows and the socket now allow, a turn a stream. Whoever had a turn goes to the end of the
   * line, also across calls: windows that open a little at a time serve all streams, not the first one. The loop
   * comes to those again that moved, and only once to those whose reader does not read.
   */
  pump(side: SendSide): void {
    if (side.writer.blocked) return;
    for (const stream of this.streams) {
      if (side.sendWindow <= 0) return;
      if (!this.turn(side, stream)) continue;
      if (this.streams.delete(stream)) this.streams.add(stream);
      if (side.writer.pendingBytes > GATHER_MAX_BYTES) side.writer.flush();
      if (side.writer.blocked) return;
    }
  }

  /** Only a stream's own window opened: no need to look at the others. */
  pumpOne(side: SendSide, stream: Stream): void {
    if (!this.streams.has(stream)) return;
    while (side.sendWindow > 0 && !side.writer.blocked && this.streams.has(stream)) {
      if (!this.turn(side, stream)) return;
      if (side.writer.pendingBytes > GATHER_MAX_BYTES) side.writer.flush();
    }
  }

  private turn(side: SendSide, stream: Stream): boolean {
    const queue = stream.queue;
    if (queue === undefined) {
      this.streams.delete(stream);
      return false;
    }
    let sent = 0;
    let chunk = queue.first;
    while (chunk !== undefined && sent < TURN_BYTES) {
      const bytes = Math.min(chunk.end - chunk.start, stream.sendWindow, side.sendWindow, side.maxFrameBytes);
      if (bytes <= 0) break;
      const last = queue.length === 1 && chunk.start + bytes === chunk.end;
      const endStream = last && queue.endStream && queue.trailers === undefined;
      const flags = endStream ? Flag.END_STREAM : 0;
      side.writer.frame(FrameType.DATA, flags, stream.id, chunk.buffer, chunk.start, chunk.start + bytes);
      queue.sent(chunk, bytes);
      stream.sendWindow -= bytes;
      side.sendWindow -= bytes;
      sent += bytes;
      chunk = queue.first;
    }
    if (sent > 0) side.onTurn(sent);
    if (chunk === undefined) {
      this.streams.delete(stream);
      stream.queue = undefined;
      side.onQueueSent(stream, queue);
    }
    if (sent > 0) stream.handler.onDataSent(stream, sent);
    return sent > 0;
  }
}

/** Adds a WINDOW_UPDATE's increment; NaN when the sum would pass 2^31-1, which is an error (RFC 9113 §6.9.1). */
export function widen(window: number, increment: number): number {
  const sum = window + increment;
  return sum > MAX_WINDOW_BYTES ? Number.NaN : sum;
}
