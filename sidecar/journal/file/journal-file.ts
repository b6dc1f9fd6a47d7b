/** The open file of a journal: each operation is one short transaction, and whole. */
import type { DatabaseSync, SQLInputValue, StatementSync } from 'node:sqlite';
import type { BegunRun, Kept, StoreLimits, Written } from '../record/journal-store.ts';

interface Task {
  readonly id: number;
  readonly run: number;
}

/** Pages that are given back to the disk at a time. */
const PAGES_AT_ONCE = 1_000;
/** What a row takes beside its payload, about. */
const ROW_BYTES = 128;

export class JournalFile {
  private readonly db: DatabaseSync;
  private readonly limits: StoreLimits;
  private readonly statements = new Map<string, StatementSync>();

  constructor(db: DatabaseSync, limits: StoreLimits) {
    this.db = db;
    this.limits = limits;
  }

  begin(task: string, nowMs: number): BegunRun {
    return this.change(() => {
      const { runs: run } = this.get<{ runs: number }>('UPDATE journal SET runs = runs + 1 RETURNING runs')!;
      const { id } = this.get<Task>(
        `INSERT INTO tasks (task, run, used_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (task) DO UPDATE SET run = ?2, used_at = ?3 RETURNING id, run`,
        task,
        run,
        nowMs,
      )!;
      const kept = this.all<Kept>(
        'SELECT id AS reference, place, bytes FROM answers WHERE task = ? AND stored_at > ? ORDER BY id',
        id,
        nowMs - this.limits.maxAgeMs,
      );
      return { run, kept };
    });
  }

  read(reference: number, nowMs: number): Uint8Array | undefined {
    return this.get<{ payload: Uint8Array }>(
      'SELECT payload FROM answers WHERE id = ? AND stored_at > ?',
      reference,
      nowMs - this.limits.maxAgeMs,
    )?.payload;
  }

  write(task: string, run: number, place: string, payload: Uint8Array, nowMs: number): Written {
    const bytes = payload.length + ROW_BYTES;
    if (bytes > this.limits.maxBytes) return { outcome: 'full' };
    return this.change(() => {
      const known = this.get<Task>('SELECT id, run FROM tasks WHERE task = ?', task);
      if (known?.run !== run) return { outcome: 'void' };
      this.remove('task = ? AND place = ?', known.id, place);
      this.makeRoom(bytes, known.id);
      const { reference } = this.get<{ reference: number }>(
        'INSERT INTO answers (task, place, stored_at, bytes, payload) VALUES (?, ?, ?, ?, ?) RETURNING id AS reference',
        known.id,
        place,
        nowMs,
        bytes,
        payload,
      )!;
      this.run('UPDATE journal SET bytes = bytes + ?', bytes);
      this.run('UPDATE tasks SET used_at = ? WHERE id = ?', nowMs, known.id);
      return { outcome: 'stored', reference };
    });
  }

  drop(task: string, run: number): undefined {
    this.change(() => {
      const known = this.get<Task>('SELECT id, run FROM tasks WHERE task = ?', task);
      if (known?.run !== run) return;
      this.remove('task = ?', known.id);
      this.run('DELETE FROM tasks WHERE id = ?', known.id);
    });
  }

  /** Forgets what is too old. */
  sweep(nowMs: number): void {
    const before = nowMs - this.limits.maxAgeMs;
    this.change(() => {
      this.remove('stored_at <= ?', before);
      this.run(
        'DELETE FROM tasks WHERE used_at <= ? AND NOT EXISTS (SELECT 1 FROM answers WHERE answers.task = tasks.id)',
        before,
      );
    });
    this.db.exec(`PRAGMA incremental_vacuum(${PAGES_AT_ONCE})`);
  }

  close(): void {
    this.statements.clear();
    this.db.close();
  }

  /** The answers of the tasks that were used longest ago make room. */
  private makeRoom(bytes: number, task: number): void {
    for (;;) {
      const { bytes: taken } = this.get<{ bytes: number }>('SELECT bytes FROM journal')!;
      if (taken + bytes <= this.limits.maxBytes) return;
      const oldest = this.get<{ task: number }>(
        `SELECT answers.task FROM answers JOIN tasks ON tasks.id = answers.task
         ORDER BY answers.task = ?, tasks.used_at LIMIT 1`,
        task,
      );
      if (oldest === undefined) return;
      this.remove('task = ?', oldest.task);
    }
  }

  private remove(where: string, ...values: SQLInputValue[]): void {
    const { bytes } = this.get<{ bytes: number }>(
      `SELECT ifnull(sum(bytes), 0) AS bytes FROM answers WHERE ${where}`,
      ...values,
    )!;
    if (bytes === 0) return;
    this.run(`DELETE FROM answers WHERE ${where}`, ...values);
    this.run('UPDATE journal SET bytes = bytes - ?', bytes);
  }

  private change<T>(body: () => T): T {
    this.db.exec('BEGIN IMMEDIATE');
    try {
      const value = body();
      this.db.exec('COMMIT');
      return value;
    } catch (error) {
      try {
        this.db.exec('ROLLBACK');
      } catch {
        // Where the disk is full, say, SQLite has done so already.
      }
      throw error;
    }
  }

  private get<Row>(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.prepare(sql).get(...values) as Row | undefined;
  }

  private all<Row>(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.prepare(sql).all(...values) as Row[];
  }

  private run(sql: string, ...values: SQLInputValue[]): void {
    this.prepare(sql).run(...values);
  }

  private prepare(sql: string): StatementSync {
    let statement = this.statements.get(sql);
    if (statement === undefined) this.statements.set(sql, (statement = this.db.prepare(sql)));
    return statement;
  }
}
