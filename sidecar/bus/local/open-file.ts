/** Opens a task file, or makes it: with its checks, its permissions and its tables. */
import type { DatabaseSync } from 'node:sqlite';
import { LogSetupError } from '../log/log-errors.ts';
import { makePrivateFile } from './private-file.ts';
import { APPLICATION_ID, SCHEMA, SCHEMA_VERSION } from './schema.ts';

/** How long the start waits for other processes. */
const BUSY_MS = 5_000;
/** The log beside the file (`-wal`) is cut to this size when its content is in the file. */
const WAL_LIMIT_BYTES = 8 << 20;
/** SQLite's own default, said here because the size of the log follows from it: 4 MiB. */
const CHECKPOINT_PAGES = 1_000;

/** Throws LogSetupError, which says what to do. */
export async function openFile(path: string): Promise<DatabaseSync> {
  const { DatabaseSync } = await importSqlite();
  let db: DatabaseSync | undefined;
  try {
    makePrivateFile(path, 'bus.url', 'NATS between machines');
    db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
    prepare(db, path);
    // From now on TaskFile waits, with shorter breaks than SQLite's.
    db.exec('PRAGMA busy_timeout = 0');
    return db;
  } catch (error) {
    db?.close();
    throw new LogSetupError(problemOf(error, path), error);
  }
}

/** Node before 24 warns that its SQLite is experimental; an operator can do nothing about it. */
export async function importSqlite(): Promise<typeof import('node:sqlite')> {
  const { emitWarning } = process;
  try {
    process.emitWarning = () => {};
    return await import('node:sqlite');
  } catch (error) {
    throw new LogSetupError(
      `this Node (${process.versions.node}) has no node:sqlite, which a task file needs: use Node 22.13 or newer, or a bus.url of NATS`,
      error,
    );
  } finally {
    process.emitWarning = emitWarning;
  }
}

function prepare(db: DatabaseSync, path: string): void {
  // The option of the constructor is newer than the oldest Node.
  db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
  // Has an effect on an empty file only, and before its first table.
  db.exec('PRAGMA auto_vacuum = INCREMENTAL');
  db.exec('PRAGMA journal_mode = WAL');
  db.exec('PRAGMA synchronous = FULL');
  db.exec(`PRAGMA journal_size_limit = ${WAL_LIMIT_BYTES}`);
  db.exec(`PRAGMA wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
  db.exec('BEGIN IMMEDIATE');
  try {
    makeTables(db, path);
    db.exec('COMMIT');
  } catch (error) {
    db.exec('ROLLBACK');
    throw error;
  }
}

function makeTables(db: DatabaseSync, path: string): void {
  const pragma = (name: string): unknown => Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
  const version = Number(pragma('user_version'));
  const application = Number(pragma('application_id'));
  const tables = db.prepare('SELECT count(*) AS count FROM sqlite_schema').get() as { count: number };
  if (application !== APPLICATION_ID) {
    if (application !== 0 || tables.count > 0)
      throw new LogSetupError(
        `bus.url: ${path} is an SQLite file of another program: name a file of its own`,
      );
    db.exec(SCHEMA);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  } else if (version !== SCHEMA_VERSION) {
    throw new LogSetupError(
      version > SCHEMA_VERSION
        ? `bus.url: ${path} was written by a newer Outrigger (version ${version} of its tables, this one knows ${SCHEMA_VERSION}): update this Outrigger, or name another file`
        : `bus.url: ${path} has tables of version ${version}, which this Outrigger can't read: let its tasks end under the version that wrote it, then name another file`,
    );
  }
}

/** Says what is wrong with the file, and what to do. */
export function problemOf(error: unknown, path: string): string {
  if (error instanceof LogSetupError) return error.message;
  const { code, errcode, message } = error as NodeJS.ErrnoException & { errcode?: number };
  const primary = (errcode ?? 0) & 0xff;
  if (primary === 11 || primary === 26)
    return `bus.url: ${path} is no task file, or is damaged (${message}): move it and its -wal and -shm away; a new one is made at the next start, without the tasks of the old one`;
  if (primary === 13 || code === 'ENOSPC') return `bus.url: the disk of ${path} is full: make room for it`;
  if (primary === 5)
    return `bus.url: ${path} is locked by another process for longer than ${BUSY_MS / 1_000} s: look for one that is stopped or isn't Outrigger`;
  return `bus.url: can't open ${path} (${code === 'ERR_SQLITE_ERROR' || code === undefined ? message : code}): this user needs to write to the file and its folder`;
}
