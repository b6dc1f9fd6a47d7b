import { Flag, FrameType, MAX_WINDOW_BYTES } from './frame.ts';
import { type QueueHolder, queuedMemory } from './queued-memory.ts';
import { SendQueue } from './send-queue.ts';
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
export class WaitingStreams implements QueueHolder {
  private readonly streams = new Set<Stream>();
  /** Bytes that wait, over all streams. */
  bytes = 0;
  movedAt = 0;

  get size(): number {
    return this.streams.size;
  }

  [Symbol.iterator](): Iterator<Stream> {
    return this.streams.values();
  }

  /** Lays bytes, and the stream's end, behind what waits already. */
  push(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    if (this.streams.size === 0) this.movedAt = queuedMemory.look;
    stream.queue ??= new SendQueue(queuedMemory.look);
    if (end > start) stream.queue.push(buffer, start, end);
    if (endStream) stream.queue.endStream = true;
    this.streams.add(stream);
    this.count(end - start);
  }

  /** Forgets what waits on a stream: it has ended, or its reader took too long. */
  discard(stream: Stream): void {
    const { queue } = stream;
    if (queue === undefined) return;
    this.streams.delete(stream);
    stream.queue = undefined;
    this.count(-queue.bytes);
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    queuedMemory.count(this, bytes);
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
      this.toEnd(stream);
      if (side.writer.pendingBytes > GATHER_MAX_BYTES) side.writer.flush();
      if (side.writer.blocked) return;
    }
  }

  /** Only a stream's own window opened: no need to look at the others. */
  pumpOne(side: SendSide, stream: Stream): void {
    if (!this.streams.has(stream)) return;
    while (side.sendWindow > 0 && !side.writer.blocked && this.streams.has(stream)) {
      if (!this.turn(side, stream)) return;
      this.toEnd(stream);
      if (side.writer.pendingBytes > GATHER_MAX_BYTES) side.writer.flush();
    }
  }

  private toEnd(stream: Stream): void {
    if (this.streams.delete(stream)) this.streams.add(stream);
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
    if (sent > 0) {
      queue.movedAt = queuedMemory.look;
      this.movedAt = queuedMemory.look;
      this.count(-sent);
      side.onTurn(sent);
    }
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
