import { Flag, FrameType, MAX_WINDOW_BYTES } from './frame.ts';
import type { SendQueue, Stream } from './streams.ts';
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

  /** Writes what the windows and the socket now allow, a turn a stream, until nothing moves any more. */
  pump(side: SendSide): void {
    let moved = this.streams.size > 0;
    while (moved && side.sendWindow > 0 && !side.writer.blocked) {
      moved = false;
      for (const stream of this.streams) {
        if (this.turn(side, stream)) moved = true;
        if (side.writer.pendingBytes > GATHER_MAX_BYTES) side.writer.flush();
        if (side.writer.blocked) return;
      }
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
    while (queue.chunks.length > 0 && sent < TURN_BYTES) {
      const chunk = queue.chunks[0]!;
      const bytes = Math.min(chunk.end - chunk.start, stream.sendWindow, side.sendWindow, side.maxFrameBytes);
      if (bytes <= 0) break;
      const last = queue.chunks.length === 1 && chunk.start + bytes === chunk.end;
      const endStream = last && queue.endStream && queue.trailers === undefined;
      const end = chunk.start + bytes;
      side.writer.frame(
        FrameType.DATA,
        endStream ? Flag.END_STREAM : 0,
        stream.id,
        chunk.buffer,
        chunk.start,
        end,
      );
      chunk.start = end;
      stream.sendWindow -= bytes;
      side.sendWindow -= bytes;
      sent += bytes;
      if (chunk.start === chunk.end) queue.chunks.shift();
    }
    if (queue.chunks.length === 0) {
      this.streams.delete(stream);
      stream.queue = undefined;
      side.onQueueSent(stream, queue);
    }
    if (sent > 0 && !stream.closed) stream.handler.onDataSent(stream, sent);
    return sent > 0;
  }
}

/** Adds a WINDOW_UPDATE's increment; NaN when the sum would pass 2^31-1, which is an error (RFC 9113 §6.9.1). */
export function widen(window: number, increment: number): number {
  const sum = window + increment;
  return sum > MAX_WINDOW_BYTES ? Number.NaN : sum;
}
