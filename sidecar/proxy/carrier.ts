/** A connection that carries streams which their callers may resume: names them, and keeps what may not have arrived. */
import { LinkedList, ListNode } from '../collections/linked-list.ts';
import { RUN_HEADER } from '../grpc/hop-fields.ts';
import { FRAME_HEADER_BYTES, FrameType, readUint32 } from '../http2/frame.ts';
import { copyWithout, type HeaderList } from '../http2/hpack/header-list.ts';
import type { StreamConnection } from '../http2/streams.ts';
import type { WriteTap } from '../http2/writer.ts';
import type { SentBytes } from './sent-bytes.ts';
import { release, SentLog, type Written } from './sent-log.ts';
import { SENT_TAIL_MAX_BYTES } from './sent-tail.ts';
import type { Room } from './spare-memory.ts';
import { announcedConnectionName, nextConnectionName } from './stream-names.ts';

/** The most that the log of a connection holds: the window that a caller's sidecar gives it, and half as much for frame headers. */
const LOG_MAX_BYTES = 6_291_456;

/** The names of a connection: ours, which the heads of its answers have, and that of the caller's sidecar. */
export interface ConnectionNames {
  readonly ours: string;
  readonly callers: string;
}

/** A stream that a connection carries. */
export interface CarriedStream<Self> extends ListNode<Self> {
  /** Its number on this connection. */
  readonly streamId: number;
  readonly isOver: boolean;
  readonly sent: SentBytes;
  /** What its carrier had written at its end; -1 while its end was not written. Only the carrier writes it. */
  endAtBytes: number;
  /** There is no room for what it has sent, or its caller has received all of it. */
  giveUp(): void;
}

/** Where carriers are found while they carry something. */
export interface CarrierOwner<Carried extends CarriedStream<Carried>> {
  readonly room: Room;
  add(carrier: Carrier<Carried>): void;
  remove(carrier: Carrier<Carried>): void;
}

/**
 * A connection's writes go to its log as they are, with no work for a frame. Only what does not fit there, or is asked for, is
 * divided among the streams, each of which has a tail (`sent-tail.ts`). Log and tails hold 256 KiB for each stream that may
 * be resumed. One whose call is over counts, too: the last bytes of a burst are often on the way when all its calls are.
 */
export class Carrier<Carried extends CarriedStream<Carried>>
  extends ListNode<Carrier<Carried>>
  implements WriteTap
{
  readonly names: ConnectionNames;
  private readonly running = new LinkedList<Carried>();
  /** Those whose ends were written, in the order of their ends. */
  private readonly ended = new LinkedList<Carried>();
  private readonly connection: StreamConnection;
  private readonly owner: CarrierOwner<Carried>;
  private readonly log: SentLog;
  private size = 0;
  /** What the tails have, and what the connection had written when the log was divided last. */
  private tailBytes = 0;
  private dividedAtBytes = 0;
  /** A head of the application, and the same with our name. Heads mostly repeat, and one list is encoded once. */
  private head: HeaderList | undefined = undefined;
  private namedHead: HeaderList | undefined = undefined;

  constructor(connection: StreamConnection, owner: CarrierOwner<Carried>) {
    super();
    this.connection = connection;
    this.owner = owner;
    this.log = new SentLog(owner.room);
    this.names = { ours: nextConnectionName(), callers: announcedConnectionName(connection) };
    connection.writer.tap = this;
  }

  add(stream: Carried): void {
    if (this.size++ === 0) this.owner.add(this);
    this.tailBytes += stream.sent.heldBytes;
    stream.endAtBytes = -1;
    this.running.add(stream);
  }

  /** The stream's end was written. */
  end(stream: Carried): void {
    if (stream.endAtBytes >= 0) return;
    const { credit, sendWindow } = this.connection;
    this.running.remove(stream);
    stream.endAtBytes = credit.writtenBytes(sendWindow);
    this.ended.add(stream);
  }

  *carried(): Generator<Carried> {
    for (const list of [this.running, this.ended])
      for (let stream = list.oldest; stream !== undefined; stream = stream.newer) yield stream;
  }

  remove(stream: Carried): void {
    (stream.endAtBytes < 0 ? this.running : this.ended).remove(stream);
    this.tailBytes -= stream.sent.heldBytes;
    if (--this.size > 0) return;
    this.log.clear();
    this.tailBytes = 0;
    this.owner.remove(this);
  }

  /** The head of an answer with the name of this connection, which with the number of its stream is that of the run. */
  named(list: HeaderList): HeaderList {
    if (list === this.head) return this.namedHead!;
    const named = copyWithout(list, () => false, [RUN_HEADER, this.names.ours]);
    if (!list.shared) return named;
    this.head = list;
    this.namedHead = named;
    return named;
  }

  onFlush(segments: readonly Buffer[], slab: Buffer, start: number, end: number): void {
    if (this.size === 0) return;
    const { connection, log } = this;
    const { credit } = connection;
    const { receivedBytes } = credit;
    log.forget(receivedBytes);
    // Frames arrive in their order: whoever has a later byte has the end, too.
    for (let stream = this.ended.oldest; stream !== undefined; stream = this.ended.oldest) {
      if (stream.endAtBytes >= receivedBytes) break;
      stream.giveUp();
    }
    if (this.dividedAtBytes > 0 && receivedBytes >= this.dividedAtBytes) this.dropTails();
    const writtenBytes = credit.writtenBytes(connection.sendWindow);
    if (log.add(segments, slab, start, end, writtenBytes, this.limitBytes)) {
      // Ends may have given way to it, and all of them were ours.
      if (this.size === 0) log.clear();
      return;
    }
    const writes: Written[] = segments.map((buffer) => ({ buffer, start: 0, end: buffer.length }));
    writes.push({ buffer: slab, start, end });
    this.divide(writes);
  }

  private get limitBytes(): number {
    return Math.min(this.size * SENT_TAIL_MAX_BYTES - this.tailBytes, LOG_MAX_BYTES);
  }

  private dropTails(): void {
    this.dividedAtBytes = 0;
    for (const { sent } of this.carried()) sent.dropReceived();
    this.countTails();
  }

  private countTails(): void {
    this.tailBytes = 0;
    for (const { sent } of this.carried()) this.tailBytes += sent.heldBytes;
  }

  /** Gives the streams all that was written. */
  settle(): void {
    this.connection.writer.flush();
    this.divide([]);
  }

  /** @param more was written behind what the log has */
  private divide(more: readonly Written[]): void {
    const { connection, log } = this;
    const logged = log.takeAll();
    const writes = [...logged, ...more];
    const bytesOf = new Map<number, number>();
    for (const write of writes)
      eachData(write, (id, _buffer, start, end) => {
        bytesOf.set(id, (bytesOf.get(id) ?? 0) + end - start);
      });
    const byId = new Map<number, Carried>();
    for (const stream of this.carried()) {
      const { streamId } = stream;
      byId.set(streamId, stream);
      stream.sent.expect(bytesOf.get(streamId) ?? 0);
    }
    const full: Carried[] = [];
    for (const write of writes)
      eachData(write, (id, buffer, start, end) => {
        const stream = byId.get(id);
        if (stream === undefined || stream.isOver || stream.sent.keep(buffer, start, end)) return;
        byId.delete(id);
        full.push(stream);
      });
    release(logged);
    for (const stream of full) stream.giveUp();
    this.dividedAtBytes = connection.credit.writtenBytes(connection.sendWindow);
    this.countTails();
  }
}

type OnData = (streamId: number, buffer: Buffer, start: number, end: number) => void;

/** The DATA among frames that we have written, which have no padding. */
function eachData({ buffer, start, end }: Written, onData: OnData): void {
  for (let at = start; at < end; ) {
    const payload = at + FRAME_HEADER_BYTES;
    const next = payload + ((buffer[at]! << 16) | (buffer[at + 1]! << 8) | buffer[at + 2]!);
    if (buffer[at + 3] === FrameType.DATA && next > payload)
      onData(readUint32(buffer, at + 5), buffer, payload, next);
    at = next;
  }
}
