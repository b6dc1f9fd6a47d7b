/**
 * A store on NATS JetStream, for the sidecars of several machines. The messages of a task, in the order of the stream:
 *
 *     run 1 │ answer of 1 │ answer of 1 │ run 5 │ answer of 1: void │ answer of 5 │ …
 *
 * The sequence of its first message names a run. An answer counts when it lies between the beginning of its run and that of
 * the next one, so that a run which is late changes nothing, and no write waits for another.
 */
import { DiscardPolicy, RetentionPolicy, StorageType } from '@nats-io/jetstream';
import { nanos } from '@nats-io/transport-node';
import { BusConnection, type Stored } from '../../bus/nats/connection.ts';
import { bytesOf, headOf, readHead } from '../../bus/nats/head.ts';
import { journalStream, journalSubject } from '../../bus/nats/names.ts';
import type { LinkOptions } from '../../bus/nats/nats-options.ts';
import { ensureStream } from '../../bus/nats/streams.ts';
import type { BegunRun, JournalStore, Kept, StoreLimits, Written } from '../record/journal-store.ts';

const OPEN_MS = 5_000;
const AT_ONCE = 256;
/** For the fields of a message, which the server counts too. */
const FIELDS_BYTES = 32 * 1024;
const DUPLICATES_MS = 1_000;
const NOTHING = Buffer.alloc(0);

export interface NatsStoreOptions extends LinkOptions {
  /** The name of the sidecars that share the answers. */
  readonly name: string;
  readonly limits: StoreLimits;
  readonly replicas: number;
  /** A stream that is there gets these limits. */
  readonly setUp?: boolean;
}

/** `run` is 0 in the first message of a run. Parts of a large answer name the part before them. */
interface Head {
  readonly run: number;
  readonly place?: string;
  /** Of all parts so far. */
  readonly bytes?: number;
  /** The sequence of the part before; absent in the first one. */
  readonly before?: number;
  readonly isPart?: boolean;
}

/** @throws LogSetupError or LogUnavailableError, whose messages say what to do */
export async function openNatsStore(options: NatsStoreOptions): Promise<JournalStore> {
  const store = new NatsStore(options);
  await store.open();
  return store;
}

class NatsStore implements JournalStore {
  readonly isOver = false;
  onChange: (() => void) | undefined = undefined;
  private readonly connection: BusConnection;
  private readonly limits: StoreLimits;
  private readonly name: string;
  private readonly stream: string;

  constructor({ name, limits, replicas, setUp = false, ...link }: NatsStoreOptions) {
    this.name = name;
    this.stream = journalStream(name);
    this.limits = limits;
    this.connection = new BusConnection(link, async (jsm) => {
      await ensureStream(
        jsm,
        {
          name: this.stream,
          subjects: [journalSubject(name, '*', '*')],
          storage: StorageType.File,
          retention: RetentionPolicy.Limits,
          discard: DiscardPolicy.Old,
          max_age: nanos(Math.max(limits.maxAgeMs, DUPLICATES_MS)),
          max_bytes: limits.maxBytes,
          duplicate_window: nanos(DUPLICATES_MS),
          num_replicas: replicas,
          allow_direct: true,
        },
        setUp,
      );
    });
    this.connection.onConnected = () => this.onChange?.();
  }

  async open(): Promise<void> {
    await this.connection.open(OPEN_MS);
  }

  get connected(): boolean {
    return this.connection.connected;
  }

  get problem(): string {
    return this.connected ? '' : this.connection.awayError().message;
  }

  async begin(task: string): Promise<BegunRun> {
    const { sequence: run } = await this.connection.store(
      journalSubject(this.name, task, 'run'),
      NOTHING,
      headOf({ run: 0 } satisfies Head),
    );
    const kept = new Map<string, Kept>();
    let current = 0;
    for (let from = 1; from < run; ) {
      const found = await this.connection.directBatch(
        this.stream,
        journalSubject(this.name, task, '*'),
        from,
        AT_ONCE,
      );
      if (found.length === 0) break;
      for (const message of found) {
        from = message.seq + 1;
        if (message.seq >= run) break;
        const head = readHead<Head>(message.headers);
        if (head?.run === 0) current = message.seq;
        else if (head?.run === current && head.isPart !== true) this.note(kept, head, message);
      }
    }
    return { run, kept: [...kept.values()] };
  }

  /** A later answer of one place replaces the earlier one. */
  private note(kept: Map<string, Kept>, { place, bytes = 0 }: Head, { seq, timeMs }: Stored): void {
    if (place === undefined || timeMs < this.connection.clock.nowMs() - this.limits.maxAgeMs) return;
    kept.delete(place);
    kept.set(place, { place, reference: seq, bytes });
  }

  async read(task: string, reference: number): Promise<Buffer | undefined> {
    const parts: Buffer[] = [];
    for (let seq: number | undefined = reference; seq !== undefined; ) {
      const message = await this.connection.directGet(this.stream, { seq });
      if (message?.subject !== journalSubject(this.name, task, 'answer')) return undefined;
      const head: Head | undefined = readHead<Head>(message.headers);
      if (head === undefined) return undefined;
      parts.unshift(bytesOf(message.data));
      seq = head.before;
    }
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  }

  async write(task: string, run: number, place: string, payload: Buffer): Promise<Written> {
    if (payload.length > this.limits.maxBytes) return { outcome: 'full' };
    const partBytes = this.connection.maxPayload - FIELDS_BYTES;
    let before: number | undefined;
    let from = 0;
    do {
      const end = Math.min(payload.length, from + partBytes);
      const head: Head = {
        run,
        place,
        bytes: end,
        ...(before === undefined ? {} : { before }),
        ...(end < payload.length ? { isPart: true } : {}),
      };
      const stored = await this.connection.store(
        journalSubject(this.name, task, 'answer'),
        payload.subarray(from, end),
        headOf(head),
      );
      before = stored.sequence;
      from = end;
    } while (from < payload.length);
    return { outcome: 'stored', reference: before };
  }

  async drop(task: string, run: number, last: number): Promise<void> {
    const latest = await this.connection.directLast(this.stream, journalSubject(this.name, task, 'run'));
    if (latest?.seq !== run) return;
    // Not what a run stores that begins just now.
    const before = Math.max(run, last) + 1;
    await this.connection.manage((jsm) =>
      jsm.streams.purge(this.stream, { filter: journalSubject(this.name, task, '*'), seq: before }),
    );
  }

  async close(): Promise<void> {
    await this.connection.close();
  }
}
