/** The keys of tasks: read, and written by compare-and-set on the revision that was read. */

import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import type { TaskRecord } from '../log/task-record.ts';
import type { BusConnection } from './connection.ts';
import { bytesOf, headOf, readHead } from './head.ts';
import type { LargeBodies } from './large-bodies.ts';
import { KEYS, keySubject, resultSubject } from './names.ts';
import { type StoredTask, type TaskEntry, toRecord, writeId } from './stored-task.ts';

const NO_BODY = Buffer.alloc(0);

/** Somebody else has written the key. */
export class KeyConflict extends TypedError {
  readonly source: ErrorSource = 'upstream';
  readonly isSafeToRetry = true;
  /** What the key holds now; undefined when it is gone. */
  readonly entry: TaskEntry | undefined;

  constructor(entry: TaskEntry | undefined) {
    super('another sidecar has written the key of the task: read it again');
    this.entry = entry;
  }
}

export class Keys {
  private readonly connection: BusConnection;
  private readonly results: LargeBodies;

  constructor(connection: BusConnection, results: LargeBodies) {
    this.connection = connection;
    this.results = results;
  }

  async read(key: string): Promise<TaskEntry | undefined> {
    const found = await this.connection.directLast(KEYS, keySubject(key));
    if (found === undefined) return undefined;
    const task = readHead<StoredTask>(found.headers);
    return task === undefined ? undefined : { key, revision: found.seq, task, body: bytesOf(found.data) };
  }

  /**
   * Writes the key at this revision (0: it must not be there). An answer that is lost is no conflict: the write is found
   * again, until `untilMs` of the monotonic clock. Rejects with KeyConflict.
   *
   * @param keptMs the server removes the key after this time
   */
  async write(
    key: string,
    revision: number,
    task: Omit<StoredTask, 'write'>,
    { body = NO_BODY, keptMs, untilMs = 0 }: { body?: Buffer; keptMs?: number; untilMs?: number } = {},
  ): Promise<TaskEntry> {
    const stored: StoredTask = { ...task, write: writeId() };
    const subject = keySubject(key);
    return this.connection.persist(untilMs, async () => {
      const sequence = await this.connection.storeAt(subject, body, headOf(stored), revision, keptMs);
      if (sequence !== undefined) return { key, revision: sequence, task: stored, body };
      const now = await this.read(key);
      if (now?.task.write === stored.write) return now;
      throw new KeyConflict(now);
    });
  }

  /** As the interface shows it, with the result. */
  async record(entry: TaskEntry): Promise<TaskRecord> {
    const { key, task } = entry;
    if (task.result === null) return toRecord(entry, undefined);
    const { large } = task.result;
    const body = large === '' ? entry.body : await this.results.get(resultSubject(key, large));
    return toRecord(entry, body);
  }
}
