/** The store of a journal in the memory of this process, for what only the runs that it serves itself must know. */
import type { BegunRun, JournalStore, Kept, StoreLimits, Written } from '../record/journal-store.ts';

interface Row extends Kept {
  readonly payload: Buffer;
  readonly untilMs: number;
}

interface Task {
  run: number;
  readonly rows: Map<string, Row>;
  bytes: number;
}

/** What a row takes beside its payload, about. */
const ROW_BYTES = 512;
/** A task without rows takes memory, too. */
const MAX_TASKS = 10_000;

export class MemoryStore implements JournalStore {
  readonly connected = true;
  readonly problem = '';
  readonly isOver = false;
  onChange: (() => void) | undefined = undefined;
  private readonly limits: StoreLimits;
  private readonly clock: () => number;
  /** In the order of their last use. */
  private readonly tasks = new Map<string, Task>();
  private bytes = 0;
  private runs = 0;
  private references = 0;

  /** @param clock milliseconds that never go back */
  constructor(limits: StoreLimits, clock: () => number) {
    this.limits = limits;
    this.clock = clock;
  }

  async begin(name: string): Promise<BegunRun> {
    const task = this.tasks.get(name) ?? { run: 0, rows: new Map<string, Row>(), bytes: 0 };
    task.run = ++this.runs;
    this.use(name, task);
    const nowMs = this.clock();
    for (const row of task.rows.values()) if (row.untilMs <= nowMs) this.remove(task, row);
    return { run: task.run, kept: [...task.rows.values()] };
  }

  async read(name: string, reference: number): Promise<Buffer | undefined> {
    for (const row of this.tasks.get(name)?.rows.values() ?? [])
      if (row.reference === reference) return row.untilMs > this.clock() ? row.payload : undefined;
    return undefined;
  }

  async write(name: string, run: number, place: string, payload: Buffer): Promise<Written> {
    const task = this.tasks.get(name);
    if (task?.run !== run) return { outcome: 'void' };
    const bytes = payload.length + ROW_BYTES;
    if (bytes > this.limits.maxBytes) return { outcome: 'full' };
    const before = task.rows.get(place);
    if (before !== undefined) this.remove(task, before);
    const reference = ++this.references;
    task.rows.set(place, { place, reference, bytes, payload, untilMs: this.clock() + this.limits.maxAgeMs });
    task.bytes += bytes;
    this.bytes += bytes;
    this.use(name, task);
    return { outcome: 'stored', reference };
  }

  async drop(name: string, run: number): Promise<void> {
    const task = this.tasks.get(name);
    if (task?.run === run) this.forget(name, task);
  }

  async close(): Promise<void> {
    this.tasks.clear();
    this.bytes = 0;
  }

  /** The tasks that were used longest ago make room. */
  private use(name: string, task: Task): void {
    this.tasks.delete(name);
    this.tasks.set(name, task);
    for (const [oldest, other] of this.tasks) {
      if (this.bytes <= this.limits.maxBytes && this.tasks.size <= MAX_TASKS) return;
      if (other !== task) this.forget(oldest, other);
    }
  }

  private forget(name: string, task: Task): void {
    this.tasks.delete(name);
    this.bytes -= task.bytes;
  }

  private remove(task: Task, { place, bytes }: Row): void {
    task.rows.delete(place);
    task.bytes -= bytes;
    this.bytes -= bytes;
  }
}
