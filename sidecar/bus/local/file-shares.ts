/**
 * Keeps counters that the processes of one machine share, in a file of SQLite. The changes are few and small, so that they need
 * no thread: a slice of a budget now and then. A crash of the machine may lose the latest; a crash of a process loses none.
 */

import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CounterWindow, type Draw, drawn } from '../../policy/shared-counters.ts';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import type { OpenShares } from '../log/open-shares.ts';
import { importSqlite } from './open-file.ts';
import { makePrivateFile } from './private-file.ts';

/** "ORsh" */
const APPLICATION_ID = 0x4f527368;
const BUSY_MS = 5_000;
/** How long a change waits for other processes, and how long between two looks. */
const MAX_WAIT_MS = 2_000;
const RETRY_MS = 3;

/** @throws LogSetupError, whose message says what to do */
export async function openFileShares(path: string): Promise<OpenShares> {
  const { DatabaseSync } = await importSqlite();
  try {
    makePrivateFile(path, 'bus.url', 'NATS between machines');
    const db = new DatabaseSync(path);
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    db.exec('PRAGMA journal_mode = WAL');
    db.exec('PRAGMA synchronous = NORMAL');
    db.exec(
      'CREATE TABLE IF NOT EXISTS shares (counter TEXT, window INTEGER, taken REAL, ends_at REAL, PRIMARY KEY (counter, window)) STRICT, WITHOUT ROWID',
    );
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec('PRAGMA busy_timeout = 0');
    return new FileShares(db);
  } catch (error) {
    if (error instanceof LogSetupError) throw error;
    throw new LogSetupError(
      `bus.url: the shared counters in ${path} can't be opened (${error instanceof Error ? error.message : error}): name a file on a disk of this machine that this user may write`,
      error,
    );
  }
}

class FileShares implements OpenShares {
  private readonly db: DatabaseSync;
  private readonly read: StatementSync;
  private readonly write: StatementSync;
  private readonly sweep: StatementSync;
  private sweptAtMs = 0;

  constructor(db: DatabaseSync) {
    this.db = db;
    this.read = db.prepare('SELECT taken FROM shares WHERE counter = ? AND window = ?');
    this.write = db.prepare(
      'INSERT INTO shares (counter, window, taken, ends_at) VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET taken = excluded.taken',
    );
    this.sweep = db.prepare('DELETE FROM shares WHERE ends_at < ?');
  }

  take(draw: Draw): Promise<number> {
    return this.change(draw, (taken) => drawn(draw, taken));
  }

  async giveBack(of: CounterWindow, amount: number): Promise<void> {
    await this.change(of, (taken) => -Math.min(taken, amount));
  }

  private async change(
    { counter, window, endsAtMs }: CounterWindow,
    by: (taken: number) => number,
  ): Promise<number> {
    const untilMs = performance.now() + MAX_WAIT_MS;
    for (;;) {
      try {
        this.db.exec('BEGIN IMMEDIATE');
        break;
      } catch (error) {
        if (performance.now() >= untilMs)
          throw new LogUnavailableError(`the shared counters can't be changed: ${String(error)}`, false);
        await sleep(RETRY_MS * (1 + Math.random()));
      }
    }
    try {
      const row = this.read.get(counter, window) as { taken: number } | undefined;
      const taken = row?.taken ?? 0;
      const added = by(taken);
      if (added !== 0) this.write.run(counter, window, taken + added, endsAtMs);
      const nowMs = Date.now();
      if (nowMs - this.sweptAtMs > SWEEP_MS) {
        this.sweptAtMs = nowMs;
        this.sweep.run(nowMs - SWEEP_MS);
      }
      this.db.exec('COMMIT');
      return added;
    } catch (error) {
      this.db.exec('ROLLBACK');
      throw new LogUnavailableError(`the shared counters can't be changed: ${String(error)}`, false);
    }
  }

  async close(): Promise<void> {
    this.db.close();
  }
}

/** The clocks of processes may differ by less. */
const SWEEP_MS = 3_600_000;
