/**
 * Bounds what the requests of a caller, and of all, take on the bus: those that wait or run, and dead letters. This log counts
 * what it stores itself, and all keys of the bus at its first task and whenever a bound is near: tasks of other sidecars, and
 * those that have ended.
 */
import type { FullPart } from '../log/task-log.ts';
import { TASK_BYTES, type TaskLogSettings } from '../log/task-log-settings.ts';
import type { TaskEntry } from './stored-task.ts';

const NEARLY = 0.8;
/** Between two counts, at least, and as a multiple of the time that one takes. */
const LEAST_BREAK_MS = 200;
const BREAK_FACTOR = 10;
const MOST_CALLERS = 100_000;

type EachTask = (visit: (entry: TaskEntry) => undefined) => Promise<void>;

export class QueuedBytes {
  private readonly eachTask: EachTask;
  private readonly settings: TaskLogSettings;
  private callers = new Map<string, number>();
  private total = 0;
  private nextCountMs = Number.NEGATIVE_INFINITY;
  private counting: Promise<void> | undefined = undefined;

  constructor(settings: TaskLogSettings, eachTask: EachTask) {
    this.settings = settings;
    this.eachTask = eachTask;
  }

  /** Returns what has no room for a request of this caller. */
  async fullPart(caller: string, requestBytes: number): Promise<FullPart | undefined> {
    const bytes = requestBytes + TASK_BYTES;
    const isFirst = this.nextCountMs === Number.NEGATIVE_INFINITY;
    const isNear = this.isAbove(NEARLY, caller, bytes) || this.callers.size > MOST_CALLERS;
    if (isFirst || (isNear && performance.now() >= this.nextCountMs)) {
      this.counting ??= this.count().finally(() => {
        this.counting = undefined;
      });
    }
    if (isFirst || isNear) await this.counting;
    if (this.ofCaller(caller) + bytes > this.settings.maxQueuedBytesPerCaller) return 'caller_bytes_full';
    return this.isAbove(1, caller, bytes) ? 'bytes_full' : undefined;
  }

  /** This log has stored a request. */
  add(caller: string, requestBytes: number): void {
    this.callers.set(caller, this.ofCaller(caller) + requestBytes + TASK_BYTES);
    this.total += requestBytes + TASK_BYTES;
  }

  private isAbove(share: number, caller: string, bytes: number): boolean {
    const { maxQueuedBytes, maxQueuedBytesPerCaller } = this.settings;
    return (
      this.total + bytes > share * maxQueuedBytes ||
      this.ofCaller(caller) + bytes > share * maxQueuedBytesPerCaller
    );
  }

  private ofCaller(caller: string): number {
    return this.callers.get(caller) ?? 0;
  }

  private async count(): Promise<void> {
    const startMs = performance.now();
    const before = { callers: new Map(this.callers), total: this.total };
    const callers = new Map<string, number>();
    let total = 0;
    await this.eachTask(({ task: { state, caller, requestBytes } }) => {
      if (state !== 'queued' && state !== 'running' && state !== 'dead') return;
      callers.set(caller, (callers.get(caller) ?? 0) + requestBytes + TASK_BYTES);
      total += requestBytes + TASK_BYTES;
    });
    // Tasks stored meanwhile may be counted or not; counting too much is the safe side.
    for (const [caller, bytes] of this.callers) {
      const more = bytes - (before.callers.get(caller) ?? 0);
      if (more > 0) callers.set(caller, (callers.get(caller) ?? 0) + more);
    }
    this.total = total + this.total - before.total;
    this.callers = callers;
    const endMs = performance.now();
    this.nextCountMs = endMs + Math.max(LEAST_BREAK_MS, BREAK_FACTOR * (endMs - startMs));
  }
}
