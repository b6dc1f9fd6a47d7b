/** The keys of tasks: read, and written by compare-and-set on the revision that was read. */

import type { MsgHdrs } from '@nats-io/transport-node';
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import type { BusConnection } from './connection.ts';
import { bytesOf, headOf, readHead } from './head.ts';
import { KEYS, keySubject, keySubjects, nameOf, type TaskName } from './names.ts';
import { type StoredTask, type TaskEntry, writeId } from './stored-task.ts';

const NO_BODY = Buffer.alloc(0);

/** Somebody else has written the key. */
export class KeyConflict extends TypedError {
  readonly source: ErrorSource = 'upstream';
  readonly isSafeToRetry = true;
  /** The key holds this now; undefined when it is gone. */
  readonly entry: TaskEntry | undefined;

  constructor(entry: TaskEntry | undefined) {
    super('another sidecar has written the key of the task: read it again');
    this.entry = entry;
  }
}

export class Keys {
  private readonly connection: BusConnection;

  constructor(connection: BusConnection) {
    this.connection = connection;
  }

  async read(name: TaskName): Promise<TaskEntry | undefined> {
    const found = await this.connection.directLast(KEYS, keySubject(name));
    return found && readEntry(found.subject, found.seq, found.headers, found.data);
  }

  /** The key of a task of ours; where we have no name of our own, of whichever publisher. */
  find(key: string): Promise<TaskEntry | undefined> {
    const { publisher } = this.connection;
    return publisher === undefined ? this.findAnywhere(key) : this.read({ publisher, key });
  }

  private async findAnywhere(key: string): Promise<TaskEntry | undefined> {
    const found = await this.connection.directGet(KEYS, { last_by_subj: keySubjects(key) });
    return found && readEntry(found.subject, found.seq, found.headers, found.data);
  }

  /**
   * Writes the key at this revision (0: it must not be there). An answer that is lost is no conflict: the write is found
   * again, until `untilMs` of the monotonic clock. Rejects with KeyConflict.
   *
   * @param keptMs the server removes the key after this time
   */
  async write(
    { publisher, key }: TaskName,
    revision: number,
    task: Omit<StoredTask, 'write'>,
    { body = NO_BODY, keptMs, untilMs = 0 }: { body?: Buffer; keptMs?: number; untilMs?: number } = {},
  ): Promise<TaskEntry> {
    const stored: StoredTask = { ...task, publisher, write: writeId() };
    const subject = keySubject({ publisher, key });
    return this.connection.persist(untilMs, async () => {
      const sequence = await this.connection.storeAt(subject, body, headOf(stored), revision, keptMs);
      if (sequence !== undefined) return { key, revision: sequence, task: stored, body };
      const now = await this.read({ publisher, key });
      if (now?.task.write === stored.write) return now;
      throw new KeyConflict(now);
    });
  }
}

/** A key as it was stored or told; the server has checked who may write that subject, and so its publisher. */
export function readEntry(
  subject: string,
  revision: number,
  headers: MsgHdrs | undefined,
  data: Uint8Array,
): TaskEntry | undefined {
  const task = readHead<StoredTask>(headers);
  if (task === undefined) return undefined;
  const { publisher, key } = nameOf(subject);
  return { key, revision, task: { ...task, publisher }, body: bytesOf(data) };
}
