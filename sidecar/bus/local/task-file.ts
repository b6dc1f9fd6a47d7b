/** The open file: statements, and transactions that are short, synchronous and never nested. */
import { statSync } from 'node:fs';
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import { isBusy } from './failures.ts';
import { LogClock, type StoredClock } from './log-clock.ts';
import { upkeep } from './upkeep.ts';

/** The one row of the table `log` counts these. */
interface Counters {
  change: number;
  turn: number;
  request_bytes: number;
  result_bytes: number;
}

type LogRow = Counters & StoredClock;

/** How long a transaction waits for those of other processes, and between its tries. */
const BUSY_MS = 5_000;
const RETRY_MS = 1;
const SLEEPER = new Int32Array(new SharedArrayBuffer(4));

export class TaskFile {
  readonly path: string;
  readonly settings: TaskLogSettings;
  readonly clock: LogClock;
  /** Milliseconds by the log's clock; one time for all of a transaction. */
  nowMs = 0;
  /** Set by what makes a task available: those that wait for tasks may get one in this transaction. */
  hasNewTask = false;
  /** Whether the last transaction that could write did so. */
  isChanged = false;
  private readonly db: DatabaseSync;
  /** Of a file that was removed, another may have the number; it was made at another time. */
  readonly identity: string;
  private readonly device: number;
  private readonly inode: number;
  private readonly statements = new Map<string, StatementSync>();
  /** Whether another process has changed the file since this one did so. */
  isShared = false;
  private ownChange = -1;
  private counters: Counters = { change: 0, turn: 0, request_bytes: 0, result_bytes: 0 };

  constructor(path: string, db: DatabaseSync, settings: TaskLogSettings, clock = new LogClock()) {
    this.path = path;
    const { dev, ino, birthtimeMs } = statSync(path);
    this.device = dev;
    this.inode = ino;
    this.identity = `${dev}:${ino}:${birthtimeMs}`;
    this.db = db;
    this.settings = settings;
    this.clock = clock;
  }

  /** Runs statements that read one state of the file. */
  read<T>(body: () => T): T {
    this.begin('BEGIN');
    try {
      return body();
    } finally {
      this.db.exec('COMMIT');
    }
  }

  /** Runs statements that change the file. What they did is on the disk when this returns; when it throws, nothing is. */
  write<T>(body: () => T): T {
    const stored = this.begin('BEGIN IMMEDIATE');
    try {
      this.hasNewTask = false;
      this.isChanged = false;
      this.keepTime(stored);
      const value = body();
      if (this.isChanged) this.saveCounters();
      this.db.exec('COMMIT');
      this.ownChange = this.isChanged ? this.change : stored.change;
      return value;
    } catch (error) {
      this.rollBack();
      throw error;
    }
  }

  get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.prepare(sql).get(...values) as Row | undefined;
  }

  all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.prepare(sql).all(...values) as Row[];
  }

  /** Leave the loop early rather than read what is not needed: the rest of the rows is not loaded. */
  each<Row>(sql: string, ...values: SQLInputValue[]): IterableIterator<Row> {
    return this.prepare(sql).iterate(...values) as IterableIterator<Row>;
  }

  /** Runs a statement that changes rows. Returns the id of the row that it inserted last. */
  run(sql: string, ...values: SQLInputValue[]): number {
    this.isChanged = true;
    return Number(this.prepare(sql).run(...values).lastInsertRowid);
  }

  /** The number of the last transaction before this one. */
  get lastChange(): number {
    return this.counters.change;
  }

  /** The number of this transaction, for `tasks.changed`. */
  get change(): number {
    return this.counters.change + 1;
  }

  /** A number that grows, for the order of callers. */
  nextTurn(): number {
    return ++this.counters.turn;
  }

  /** A number that no other run of any task has or had in this file. */
  nextFence(): number {
    return ++this.counters.turn;
  }

  /** Whether somebody has moved the file away: then this is another one, or none. */
  get isMoved(): boolean {
    const now = statSync(this.path, { throwIfNoEntry: false });
    return now?.ino !== this.inode || now.dev !== this.device;
  }

  /** Bytes of requests that wait, run or are dead. */
  get requestBytes(): number {
    return this.counters.request_bytes;
  }

  /** Bytes of results and chunks. */
  get resultBytes(): number {
    return this.counters.result_bytes;
  }

  addRequestBytes(bytes: number): void {
    this.counters.request_bytes += bytes;
  }

  addResultBytes(bytes: number): void {
    this.counters.result_bytes += bytes;
  }

  /** Changes when another process has changed the file. */
  dataVersion(): number {
    return this.patiently(() => this.get<{ data_version: number }>('PRAGMA data_version')!.data_version);
  }

  keepUp(): void {
    this.patiently(() => upkeep(this.db, this.path));
  }

  close(): void {
    this.statements.clear();
    this.db.close();
  }

  private rollBack(): void {
    try {
      this.db.exec('ROLLBACK');
    } catch {
      // Where the disk is full, say, SQLite has done so already.
    }
  }

  /** The first statement of a transaction takes its lock; those after it wait for nobody. */
  private begin(sql: 'BEGIN' | 'BEGIN IMMEDIATE'): LogRow {
    const stored = this.patiently(() => {
      this.db.exec(sql);
      try {
        return this.get<LogRow>('SELECT * FROM log')!;
      } catch (error) {
        this.rollBack();
        throw error;
      }
    });
    this.nowMs = this.clock.nowMs(stored);
    this.counters = { ...stored };
    if (sql === 'BEGIN IMMEDIATE') this.isShared = stored.change !== this.ownChange;
    return stored;
  }

  /** Tries again while another process has the lock. SQLite itself would soon look for it ten times a second only. */
  private patiently<T>(body: () => T): T {
    const endMs = performance.now() + BUSY_MS;
    for (;;) {
      try {
        return body();
      } catch (error) {
        if (!isBusy(error) || performance.now() >= endMs) throw error;
        Atomics.wait(SLEEPER, 0, 0, RETRY_MS);
      }
    }
  }

  /** The clock has another base than the one that is stored: all processes take it from now on. */
  private keepTime(stored: LogRow): void {
    const forwardMs = this.clock.keep(stored);
    if (forwardMs === undefined) return;
    this.nowMs = this.clock.nowMs(undefined);
    const { clock_offset, clock_boot, clock_last } = this.clock.stored(this.nowMs);
    this.run(
      'UPDATE log SET clock_offset = ?, clock_boot = ?, clock_last = ?',
      clock_offset,
      clock_boot,
      clock_last,
    );
    if (forwardMs === 0) return;
    // The machine slept, or its clock was set: no run was silent for that long.
    this.run(
      'UPDATE tasks SET lease_until = lease_until + ?1, due_at = min(lease_until + ?1, ifnull(deadline_at, lease_until + ?1)) WHERE lease_until IS NOT NULL',
      forwardMs,
    );
    this.run('UPDATE consumers SET expires_at = expires_at + ?', forwardMs);
    this.run('UPDATE attendance SET expires_at = expires_at + ?', forwardMs);
  }

  private saveCounters(): void {
    const { turn, request_bytes, result_bytes } = this.counters;
    this.run(
      'UPDATE log SET change = ?, turn = ?, request_bytes = ?, result_bytes = ?, clock_last = ?',
      this.change,
      turn,
      request_bytes,
      result_bytes,
      this.nowMs,
    );
  }

  private prepare(sql: string): StatementSync {
    let statement = this.statements.get(sql);
    if (statement === undefined) this.statements.set(sql, (statement = this.db.prepare(sql)));
    return statement;
  }
}
