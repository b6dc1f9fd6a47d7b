/** Opens the journal's file, or makes it: with its checks, its permissions and its tables. */
import type { DatabaseSync } from 'node:sqlite';
import { importSqlite } from '../../bus/local/open-file.ts';
import { makePrivateFile } from '../../bus/local/private-file.ts';
import { LogSetupError } from '../../bus/log/log-errors.ts';

/** `OutJ` in ASCII: the file's application id. */
const APPLICATION_ID = 0x4f75744a;
const VERSION = 1;
const BUSY_MS = 1_000;
const WAL_LIMIT_BYTES = 8 << 20;

/** `runs` numbers runs over all tasks, so that a task which was dropped never gets a number again. */
const SCHEMA = `
CREATE TABLE journal (id INTEGER PRIMARY KEY CHECK (id = 1), runs INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO journal VALUES (1, 0, 0);
CREATE TABLE tasks (
  id INTEGER PRIMARY KEY,
  task TEXT NOT NULL UNIQUE,
  run INTEGER NOT NULL,
  used_at INTEGER NOT NULL
) STRICT;
CREATE INDEX tasks_used ON tasks (used_at);
CREATE TABLE answers (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  task INTEGER NOT NULL,
  place TEXT NOT NULL,
  stored_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  payload BLOB NOT NULL,
  UNIQUE (task, place)
) STRICT;
CREATE INDEX answers_age ON answers (stored_at);
`;

/** Throws LogSetupError, which says what to do. */
export async function openJournalFile(path: string): Promise<DatabaseSync> {
  const { DatabaseSync } = await importSqlite();
  makePrivateFile(path, 'journal.store', 'bus with NATS');
  const db = new DatabaseSync(path, { enableForeignKeyConstraints: false });
  try {
    db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    db.exec('PRAGMA auto_vacuum = INCREMENTAL');
    db.exec('PRAGMA journal_mode = WAL');
    // A loss of power may lose the latest answers, which are then paid for again; a killed process loses none.
    db.exec('PRAGMA synchronous = NORMAL');
    db.exec('PRAGMA secure_delete = FAST');
    db.exec(`PRAGMA journal_size_limit = ${WAL_LIMIT_BYTES}`);
    db.exec('BEGIN IMMEDIATE');
    makeTables(db, path);
    db.exec('COMMIT');
    return db;
  } catch (error) {
    db.close();
    throw new LogSetupError(problemOf(error, path), error);
  }
}

function makeTables(db: DatabaseSync, path: string): void {
  const pragma = (name: string): number => Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  const { tables } = db.prepare('SELECT count(*) AS tables FROM sqlite_schema').get() as { tables: number };
  if (tables === 0) {
    db.exec(SCHEMA);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${VERSION}`);
  } else if (pragma('application_id') !== APPLICATION_ID) {
    throw new LogSetupError(
      `journal.store: ${path} is an SQLite file of another program, or of the bus: name a file of its own`,
    );
  } else if (pragma('user_version') !== VERSION) {
    throw new LogSetupError(
      `journal.store: ${path} was written by another version of Outrigger: name another file, or remove this one`,
    );
  }
}

/** What is wrong with the file, and what to do. */
export function problemOf(error: unknown, path: string): string {
  if (error instanceof LogSetupError) return error.message;
  const { code, errcode, message } = error as NodeJS.ErrnoException & { errcode?: number };
  const primary = (errcode ?? 0) & 0xff;
  if (primary === 11 || primary === 26)
    return `journal.store: ${path} is damaged, or no file of a journal (${message}): remove it and its -wal and -shm; the answers in it are lost`;
  if (primary === 13 || code === 'ENOSPC')
    return `journal.store: the disk of ${path} is full: make room on it`;
  if (primary === 5)
    return `journal.store: ${path} is locked by another process: look for one that is stopped, or is not Outrigger`;
  return `journal.store: can't use ${path} (${code === 'ERR_SQLITE_ERROR' || code === undefined ? message : code}): this user needs to write to the file and its folder`;
}
