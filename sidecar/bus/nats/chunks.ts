/**
 * The messages of runs. All runs of a generation share one subject, and each batch is stored behind the one that its writer
 * knows to be the last. A new run, or a cancel, puts a fence there: what an earlier run still writes is then refused.
 */
import { ANSWER_PIECE_BYTES, type ChunkBatch, FREE_BATCH_BYTES, type ReaderRoom } from '../log/task-log.ts';
import type { BusConnection, Stored } from './connection.ts';
import { bytesOf, headOf, readHead } from './head.ts';
import { CHUNKS, chunkSubject, type TaskName } from './names.ts';
import { nameOfEntry, type TaskEntry, writeId } from './stored-task.ts';

export interface ChunkHead {
  readonly run: number;
  readonly first: number;
  /** 0 for a fence, and for all parts of a large batch but the last. */
  readonly count: number;
  /** The parts of a large batch, in its last one: this and the messages before it. */
  readonly parts?: number;
  /** The bytes of all parts of a large batch, in its first one. */
  readonly bytes?: number;
  readonly write: string;
}

/** The next batch goes behind this. */
export interface ChunkEnd {
  /** Of the subject's last message; 0 for none. */
  readonly revision: number;
  readonly lastSequence: number;
  readonly run: number;
}

export const NO_CHUNKS: ChunkEnd = { revision: 0, lastSequence: 0, run: 0 };
const NOTHING = Buffer.alloc(0);
const AT_ONCE = 256;

export class Chunks {
  private readonly connection: BusConnection;

  constructor(connection: BusConnection) {
    this.connection = connection;
  }

  /** Appends a batch; undefined when another has written there. */
  async append(
    name: TaskName,
    generation: number,
    run: number,
    end: ChunkEnd,
    count: number,
    payload: Buffer,
    untilMs = 0,
  ): Promise<ChunkEnd | undefined> {
    const parts = Math.max(1, Math.ceil(payload.length / ANSWER_PIECE_BYTES));
    let at: ChunkEnd | undefined = end;
    for (let part = 0; part < parts - 1 && at !== undefined; part++) {
      const bytes = payload.subarray(part * ANSWER_PIECE_BYTES, (part + 1) * ANSWER_PIECE_BYTES);
      const whole = part === 0 ? { bytes: payload.length } : {};
      const head = { run, first: end.lastSequence + 1, count: 0, ...whole };
      at = await this.put(name, generation, head, at, bytes, untilMs);
    }
    if (at === undefined) return undefined;
    const last = { run, first: end.lastSequence + 1, count, ...(parts === 1 ? {} : { parts }) };
    return this.put(name, generation, last, at, payload.subarray((parts - 1) * ANSWER_PIECE_BYTES), untilMs);
  }

  private async put(
    name: TaskName,
    generation: number,
    part: Omit<ChunkHead, 'write'>,
    end: ChunkEnd,
    payload: Buffer,
    untilMs: number,
  ): Promise<ChunkEnd | undefined> {
    const { run, count } = part;
    const head: ChunkHead = { ...part, write: writeId() };
    const subject = chunkSubject(name, generation);
    return this.connection.persist(untilMs, async () => {
      const revision = await this.connection.storeAt(subject, payload, headOf(head), end.revision);
      const lastSequence = end.lastSequence + count;
      if (revision !== undefined) return { revision, lastSequence, run };
      const last = await this.connection.directLast(CHUNKS, subject);
      const found = readHead<ChunkHead>(last?.headers);
      return found?.write === head.write ? { revision: last!.seq, lastSequence, run } : undefined;
    });
  }

  async end(name: TaskName, generation: number): Promise<ChunkEnd> {
    const last = await this.connection.directLast(CHUNKS, chunkSubject(name, generation));
    const head = readHead<ChunkHead>(last?.headers);
    if (last === undefined || head === undefined) return NO_CHUNKS;
    return { revision: last.seq, lastSequence: head.first + head.count - 1, run: head.run };
  }

  /** From now on only this run may write. */
  async fence(name: TaskName, generation: number, run: number, untilMs = 0): Promise<ChunkEnd> {
    for (;;) {
      const end = await this.end(name, generation);
      const fenced = await this.append(name, generation, run, end, 0, NOTHING, untilMs);
      if (fenced !== undefined) return fenced;
    }
  }

  /** The stored batches of a run whose messages come after `after`, and before `before`. */
  async *read(
    entry: TaskEntry,
    after: number,
    room: ReaderRoom | undefined,
    before = Number.POSITIVE_INFINITY,
  ): AsyncGenerator<ChunkBatch> {
    const { generation, run } = entry.task;
    const subject = chunkSubject(nameOfEntry(entry), generation);
    let parts: Buffer[] = [];
    for (let from = 1; ; ) {
      const found = await this.connection.directBatch(CHUNKS, subject, from, AT_ONCE, FREE_BATCH_BYTES);
      if (found.length === 0) return;
      for (const stored of found) {
        from = stored.seq + 1;
        const head = readHead<ChunkHead>(stored.headers);
        if (head === undefined || head.run !== run) continue;
        if (head.first >= before) return;
        if (head.bytes !== undefined) {
          // Parts of an attempt that was given up may lie before them.
          parts = [];
          await room?.take(head.bytes);
        }
        parts.push(bytesOf(stored.data));
        if (head.count === 0) continue;
        const isLarge = head.parts !== undefined;
        const payload = isLarge ? Buffer.concat(parts.slice(-head.parts)) : parts.at(-1)!;
        parts = [];
        if (head.first + head.count - 1 > after)
          yield { run, firstSequence: head.first, count: head.count, payload };
        if (isLarge) room?.give();
      }
    }
  }
}

/** A batch as the server publishes it; undefined for a fence, a part of a large batch, and what isn't ours. */
export function readChunk(
  fields: Stored['headers'] | undefined,
  data: Uint8Array,
): (ChunkBatch & { readonly isWhole: boolean }) | undefined {
  const head = readHead<ChunkHead>(fields);
  if (head === undefined || head.count === 0) return undefined;
  const { run, first: firstSequence, count, parts } = head;
  return { run, firstSequence, count, payload: bytesOf(data), isWhole: parts === undefined };
}
