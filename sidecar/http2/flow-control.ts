import { LinkedList } from '../collections/linked-list.ts';
import { Flag, FrameType, MAX_WINDOW_BYTES } from './frame.ts';
import { type QueueHolder, queuedMemory } from './queued-memory.ts';
import { SendQueue } from './send-queue.ts';
import type { Stream } from './streams.ts';
import type { FrameWriter } from './writer.ts';

/** One turn of a stream while several wait: keeps a large answer from starving small ones. */
const TURN_BYTES = 16_384;

/** What sending needs of its connection. */
export interface SendSide {
  readonly writer: FrameWriter;
  sendWindow: number;
  maxFrameBytes: number;
  /** So many bytes of a stream's queue went out in one turn. */
  onTurn(bytes: number): void;
  /** The queue of a stream went out to its end: send the trailers, close the stream, tell the handler. */
  onQueueSent(stream: Stream, queue: SendQueue<Stream>): void;
}

/**
 * Streams whose DATA waits for a window (RFC 9113 §5.2) or for the socket. A slow reader waits here and nowhere
 * else: its connection, and its source's connection, go on.
 *
 *              the stream's window opens
 *     shut ────────────────────────────────▶ ready ──▶ a turn, when the connection's window and the socket allow it
 *       ▲                                                │
 *       └──────────── its window is used up ◀────────────┘
 *
 * A frame of the peer costs the turns that it lets through, however many streams wait: nobody looks at those that are shut.
 */
export class WaitingStreams implements QueueHolder {
  /** Their own windows are open. The next one to have a turn is the oldest. */
  private readonly ready = new LinkedList<SendQueue<Stream>>();
  /** Their own windows are closed. The one that has been so for the longest time is the oldest. */
  private readonly shut = new LinkedList<SendQueue<Stream>>();
  size = 0;
  /** Bytes that wait, over all streams. */
  bytes = 0;
  movedAt = 0;

  /** Streams may be discarded while they are looked at. */
  *[Symbol.iterator](): Generator<Stream> {
    for (const list of [this.shut, this.ready]) {
      let queue = list.oldest;
      while (queue !== undefined) {
        const next: SendQueue<Stream> | undefined = queue.newer;
        yield queue.stream;
        queue = next === undefined || next.listed ? next : list.oldest;
      }
    }
  }

  /** Lays bytes, and the stream's end, behind what waits already. */
  push(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): void {
    if (this.size === 0) this.movedAt = queuedMemory.look;
    let { queue } = stream;
    if (queue === undefined) {
      queue = new SendQueue(stream, queuedMemory.look);
      stream.queue = queue;
      this.size++;
      this.place(queue);
    }
    if (end > start) queue.push(buffer, start, end);
    if (endStream) queue.endStream = true;
    this.count(end - start);
  }

  /** Forgets what waits on a stream: it has ended, or its reader took too long. */
  discard(stream: Stream): void {
    const { queue } = stream;
    if (queue === undefined) return;
    this.remove(queue);
    this.count(-queue.bytes);
  }

  private remove(queue: SendQueue<Stream>): void {
    (queue.ready ? this.ready : this.shut).remove(queue);
    queue.stream.queue = undefined;
    this.size--;
  }

  /** Puts it at the end of the line that it belongs to. */
  private place(queue: SendQueue<Stream>): void {
    if (queue.listed) (queue.ready ? this.ready : this.shut).remove(queue);
    queue.ready = queue.stream.sendWindow > 0;
    (queue.ready ? this.ready : this.shut).add(queue);
  }

  /** A stream's window has become larger: it may be among those that get turns again. */
  windowOpened(stream: Stream): void {
    const { queue } = stream;
    if (queue !== undefined && !queue.ready && stream.sendWindow > 0) this.place(queue);
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    queuedMemory.count(this, bytes);
  }

  /**
   * Writes what the windows and the socket now allow, a turn a stream. Whoever had a turn goes to the end of the
   * line, also across calls: windows that open a little at a time serve all streams, not the first one.
   */
  pump(side: SendSide): void {
    while (side.sendWindow > 0 && !side.writer.blocked) {
      const queue = this.ready.oldest;
      if (queue === undefined) return;
      this.turn(side, queue);
    }
  }

  /** Only a stream's own window opened: no need to look at the others. */
  pumpOne(side: SendSide, stream: Stream): void {
    this.windowOpened(stream);
    while (stream.queue?.ready === true && side.sendWindow > 0 && !side.writer.blocked)
      this.turn(side, stream.queue);
  }

  /** A turn sends something, or finds out that the stream's window was shut by SETTINGS in the meantime. */
  private turn(side: SendSide, queue: SendQueue<Stream>): void {
    const { stream } = queue;
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
    // Before anybody hears of it, who may send more.
    if (chunk === undefined) this.remove(queue);
    else this.place(queue);
    if (sent > 0) {
      queue.movedAt = queuedMemory.look;
      this.movedAt = queuedMemory.look;
      this.count(-sent);
      side.onTurn(sent);
    }
    if (chunk === undefined) side.onQueueSent(stream, queue);
    if (sent > 0) stream.handler.onDataSent(stream, sent);
    side.writer.relieve();
  }
}

/** Adds a WINDOW_UPDATE's increment; NaN when the sum would pass 2^31-1, which is an error (RFC 9113 §6.9.1). */
export function widen(window: number, increment: number): number {
  const sum = window + increment;
  return sum > MAX_WINDOW_BYTES ? Number.NaN : sum;
}
