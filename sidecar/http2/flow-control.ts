/** Flow control of what we send: windows, and turns among the streams that wait. */
import { LinkedList } from '../collections/linked-list.ts';
import { Flag, FrameType } from './frame.ts';
import { type QueueHolder, queuedMemory } from './queued-memory.ts';
import { SendQueue } from './send-queue.ts';
import type { Stream } from './streams.ts';
import type { FrameWriter } from './writer.ts';

/** The bytes of one stream's turn while several streams wait, so that a large answer does not starve small ones. */
const TURN_BYTES = 16_384;

/** The parts of a connection that sending needs. */
export interface SendSide {
  readonly writer: FrameWriter;
  sendWindow: number;
  maxFrameBytes: number;
  /** A turn has sent this many bytes of a stream's queue. */
  onTurn(bytes: number): void;
  /** A stream's queue was sent to its end: send the trailers, or end the stream. */
  onQueueSent(stream: Stream, queue: SendQueue<Stream>): void;
}

/**
 * The streams whose DATA waits for a window (RFC 9113 §5.2) or for the socket. Only here does a slow reader's data wait: the
 * other streams of its connection, and of its source's connection, continue.
 *
 *              the stream's window opens
 *     shut ────────────────────────────────▶ ready ──▶ a turn, when the connection's window and the socket allow it
 *       ▲                                                │
 *       └──────────── its window is used up ◀────────────┘
 *
 * A frame of the peer costs only the turns that it allows, however many streams wait, because no turn checks shut streams.
 */
export class WaitingStreams implements QueueHolder {
  /** Streams whose own windows are open. The oldest has the next turn. */
  private readonly ready = new LinkedList<SendQueue<Stream>>();
  /** Streams whose own windows are used up; the oldest has been shut for the longest time. */
  private readonly shut = new LinkedList<SendQueue<Stream>>();
  size = 0;
  /** The waiting bytes of all streams. */
  bytes = 0;
  movedAt = 0;

  /** The caller may discard streams while it iterates. */
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

  /** Adds bytes, and the stream's end, to its queue. */
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

  /** Drops the queue of a stream that has ended, or whose reader took too long. */
  discard(stream: Stream): SendQueue<Stream> | undefined {
    const { queue } = stream;
    if (queue === undefined) return undefined;
    this.remove(queue);
    this.count(-queue.bytes);
    return queue;
  }

  private remove(queue: SendQueue<Stream>): void {
    (queue.ready ? this.ready : this.shut).remove(queue);
    queue.stream.queue = undefined;
    this.size--;
  }

  /** Puts a queue at the end of its line. */
  private place(queue: SendQueue<Stream>): void {
    if (queue.listed) (queue.ready ? this.ready : this.shut).remove(queue);
    queue.ready = queue.stream.sendWindow > 0;
    (queue.ready ? this.ready : this.shut).add(queue);
  }

  /** A stream's window has grown, so the stream may have turns again. */
  windowOpened(stream: Stream): void {
    const { queue } = stream;
    if (queue !== undefined && !queue.ready && stream.sendWindow > 0) this.place(queue);
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    queuedMemory.count(this, bytes);
  }

  /**
   * Writes as much as the windows and the socket now allow, in turns. After its turn a stream goes to the end of the line, also
   * across calls, so that windows that open a little at a time serve all streams and not only the first.
   */
  pump(side: SendSide): void {
    while (side.sendWindow > 0 && !side.writer.blocked) {
      const queue = this.ready.oldest;
      if (queue === undefined) return;
      this.turn(side, queue);
    }
  }

  /** The same for one stream, when only its own window has opened. */
  pumpOne(side: SendSide, stream: Stream): void {
    this.windowOpened(stream);
    while (stream.queue?.ready === true && side.sendWindow > 0 && !side.writer.blocked)
      this.turn(side, stream.queue);
  }

  /** Sends a turn's bytes, or finds that SETTINGS have shut the stream's window meanwhile. */
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
    // Before the callbacks, because their receivers may send more.
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
