/** A run that this process holds, on the main thread. */
import { FencedError } from '../log/log-errors.ts';
import type { TaskLease } from '../log/task-log.ts';
import type { Answer, TaskRecord } from '../log/task-record.ts';
import type { Held, Taken } from './requests.ts';
import { bufferOf } from './task-rows.ts';
import type { ThreadLink } from './thread-link.ts';

export class LocalLease implements TaskLease {
  readonly record: TaskRecord;
  readonly requestBytes: number;
  readonly held: Held;
  readonly cancelled: AbortSignal;
  private readonly link: ThreadLink;
  private readonly small: Buffer | undefined;
  private readonly cancel = new AbortController();
  /** The leases that this process holds, by the ids of their tasks. */
  private readonly all: Map<number, LocalLease>;
  private nextSequence: number;

  constructor(
    link: ThreadLink,
    { held, record, requestBytes, payload }: Taken,
    all: Map<number, LocalLease>,
  ) {
    this.link = link;
    this.all = all;
    all.set(held.task, this);
    this.held = held;
    this.record = record;
    this.requestBytes = requestBytes;
    this.small = payload && bufferOf(payload);
    this.cancelled = this.cancel.signal;
    this.nextSequence = record.lastSequence + 1;
  }

  async request(): Promise<Buffer> {
    return this.small ?? bufferOf(await this.link.request('request', { held: this.held }));
  }

  async begin(): Promise<void> {
    await this.link.request('begin', { held: this.held });
  }

  async extend(): Promise<void> {
    await this.link.request('extend', { held: this.held });
  }

  async write(count: number, payload: Buffer): Promise<void> {
    const firstSequence = this.nextSequence;
    this.nextSequence += count;
    try {
      await this.link.request('write', { held: this.held, firstSequence, count, payload });
    } catch (error) {
      // The same batch may be written again.
      this.nextSequence = Math.min(this.nextSequence, firstSequence);
      throw error;
    }
  }

  async settle({ status, payload }: Answer): Promise<void> {
    await this.link.request('settle', { held: this.held, status, payload });
    this.end();
  }

  async giveBack(): Promise<void> {
    await this.link.request('giveBack', { held: this.held });
    this.end();
  }

  async lose(cause: string): Promise<void> {
    await this.link.request('lose', { held: this.held, cause });
    this.end();
  }

  async bury(cause: string): Promise<void> {
    await this.link.request('bury', { held: this.held, cause });
    this.end();
  }

  /** The run no longer counts. */
  fence(because: 'lost' | 'cancelled'): void {
    this.end();
    this.cancel.abort(new FencedError(this.held.key, this.held.run, because));
  }

  private end(): void {
    if (this.all.get(this.held.task) === this) this.all.delete(this.held.task);
  }
}
