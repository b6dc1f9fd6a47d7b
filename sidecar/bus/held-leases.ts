/** The leases that one engine has given and that have not ended: as long as there are any, it must stay open. */
import { FencedError } from './log/log-errors.ts';
import type { TaskLease } from './log/task-log.ts';
import type { Answer, TaskRecord } from './log/task-record.ts';

export class HeldLeases {
  private readonly held = new Set<TaskLease>();
  private onNone: (() => void) | undefined = undefined;

  hold(lease: TaskLease): TaskLease {
    const watched = new HeldLease(lease, () => this.release(watched));
    this.held.add(watched);
    lease.cancelled.addEventListener('abort', () => this.release(watched), { once: true });
    return watched;
  }

  /** Resolves when none is held. */
  ended(): Promise<void> {
    if (this.held.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.onNone = resolve;
    });
  }

  private release(lease: TaskLease): void {
    if (this.held.delete(lease) && this.held.size === 0) this.onNone?.();
  }
}

/** A lease that says when it ends. */
class HeldLease implements TaskLease {
  private readonly lease: TaskLease;
  private readonly onEnd: () => void;

  constructor(lease: TaskLease, onEnd: () => void) {
    this.lease = lease;
    this.onEnd = onEnd;
  }

  get record(): TaskRecord {
    return this.lease.record;
  }

  get requestBytes(): number {
    return this.lease.requestBytes;
  }

  get cancelled(): AbortSignal {
    return this.lease.cancelled;
  }

  request(): Promise<Buffer> {
    return this.lease.request();
  }

  begin(): Promise<void> {
    return this.lease.begin();
  }

  extend(): Promise<void> {
    return this.lease.extend();
  }

  write(count: number, payload: Buffer): Promise<void> {
    return this.lease.write(count, payload);
  }

  settle(answer: Answer): Promise<void> {
    return this.ends(this.lease.settle(answer));
  }

  giveBack(): Promise<void> {
    return this.ends(this.lease.giveBack());
  }

  lose(cause: string): Promise<void> {
    return this.ends(this.lease.lose(cause));
  }

  bury(cause: string): Promise<void> {
    return this.ends(this.lease.bury(cause));
  }

  /** The holder may try again where the log could not be reached. */
  private async ends(done: Promise<void>): Promise<void> {
    try {
      await done;
      this.onEnd();
    } catch (error) {
      if (error instanceof FencedError) this.onEnd();
      throw error;
    }
  }
}
