/** The messages of one run, written one batch after the other, each behind the one before. */
import type { TaskRecord } from '../log/task-record.ts';
import type { ChunkEnd } from './chunks.ts';
import type { Store } from './store.ts';

/** The lease of the run. */
interface Held {
  /** Throws when the run no longer counts. */
  check(): void;
  /** Asks the key whether it does; throws when it doesn't. */
  confirm(): Promise<void>;
  heldUntilMs(): number;
}

export class RunChunks {
  private readonly store: Store;
  private readonly record: TaskRecord;
  private readonly held: Held;
  private readonly first: number;
  private end: ChunkEnd;
  private turn: Promise<unknown> = Promise.resolve();

  /** @param end where this run begins to write */
  constructor(store: Store, record: TaskRecord, end: ChunkEnd, held: Held) {
    this.store = store;
    this.record = record;
    this.held = held;
    this.end = end;
    this.first = end.lastSequence;
  }

  /** Of the last message of any run. */
  get lastSequence(): number {
    return this.end.lastSequence;
  }

  get hasWritten(): boolean {
    return this.end.lastSequence !== this.first;
  }

  write(count: number, payload: Buffer): Promise<void> {
    const written = this.turn.then(() => this.append(count, payload));
    this.turn = written.catch(() => {});
    return written;
  }

  /** Resolves when all batches are stored, or refused. */
  async written(): Promise<void> {
    await this.turn;
  }

  private async append(count: number, payload: Buffer): Promise<void> {
    const { store, record, held } = this;
    const { generation, run } = record;
    held.check();
    for (;;) {
      const untilMs = held.heldUntilMs();
      const end = await store.chunks.append(record, generation, run, this.end, count, payload, untilMs);
      held.check();
      if (end !== undefined) {
        this.end = end;
        store.size.add(payload.length);
        return;
      }
      // Only chunks that outlived their task's key may be there while we still hold it.
      await held.confirm();
      const { lastSequence } = this.end;
      this.end = { ...(await store.chunks.end(record, generation)), lastSequence };
    }
  }
}
