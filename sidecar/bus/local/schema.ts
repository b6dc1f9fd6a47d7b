/** The tables of a task file, their version, and the marks by which SQLite tells such a file from others. */

/** `Outr` in ASCII: the file's application id. */
export const APPLICATION_ID = 0x4f757472;

/** Grows with each change of the tables. A file of a newer version is refused, never changed. */
export const SCHEMA_VERSION = 2;

/**
 * `wanted` says who wants the task's answer (`log/wanted.ts`), and `attendance` which of their sidecars are there.
 * `due_at` is when time itself changes the task: a lease or a deadline ends, a delay is over, what is kept is too old.
 * `changed` numbers transactions: what a process has not seen yet has a higher number than the last that it read.
 * `started_before` is when the run before the present one began: one that is handed back leaves that behind.
 * `results.part` is the task's id and the number of the part (`results.ts`), so that nobody reads a large answer at once.
 * `fence` is another number each time that a task is taken: `run` doesn't count all of them, and begins again with each generation.
 */
export const SCHEMA = `
CREATE TABLE log (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  change INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  request_bytes INTEGER NOT NULL,
  result_bytes INTEGER NOT NULL,
  clock_offset INTEGER NOT NULL,
  clock_boot TEXT NOT NULL,
  clock_last INTEGER NOT NULL
) STRICT;
INSERT INTO log VALUES (1, 0, 0, 0, 0, 0, '', 0);

CREATE TABLE tasks (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  digest TEXT NOT NULL,
  agent_type TEXT NOT NULL,
  publisher TEXT NOT NULL,
  caller TEXT NOT NULL,
  generation INTEGER NOT NULL,
  state TEXT NOT NULL,
  run INTEGER NOT NULL DEFAULT 0,
  lost_runs INTEGER NOT NULL DEFAULT 0,
  began INTEGER NOT NULL DEFAULT 0,
  fence INTEGER NOT NULL DEFAULT 0,
  holder TEXT NOT NULL DEFAULT '',
  submitted_at INTEGER NOT NULL,
  available_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  max_age INTEGER NOT NULL,
  started_at INTEGER NOT NULL DEFAULT 0,
  started_before INTEGER NOT NULL DEFAULT 0,
  ended_at INTEGER NOT NULL DEFAULT 0,
  deadline_at INTEGER,
  wanted TEXT NOT NULL,
  lease_until INTEGER,
  due_at INTEGER,
  max_runs INTEGER NOT NULL DEFAULT 0,
  retry_base INTEGER NOT NULL DEFAULT 0,
  retry_max INTEGER NOT NULL DEFAULT 0,
  run_sequence INTEGER NOT NULL DEFAULT 0,
  last_sequence INTEGER NOT NULL DEFAULT 0,
  status INTEGER,
  cause TEXT NOT NULL DEFAULT '',
  request_bytes INTEGER NOT NULL,
  chunk_bytes INTEGER NOT NULL DEFAULT 0,
  result_bytes INTEGER NOT NULL DEFAULT 0,
  changed INTEGER NOT NULL
) STRICT;
CREATE INDEX tasks_waiting ON tasks (agent_type, caller, available_at, id) WHERE state = 'queued';
CREATE INDEX tasks_due ON tasks (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_changed ON tasks (changed);
CREATE INDEX tasks_of_caller ON tasks (caller, id);
CREATE INDEX tasks_running ON tasks (id) WHERE state = 'running';
CREATE INDEX tasks_dead ON tasks (id) WHERE state = 'dead';

CREATE TABLE requests (task INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE results (part INTEGER PRIMARY KEY, payload BLOB NOT NULL) STRICT;
CREATE TABLE chunks (
  id INTEGER PRIMARY KEY,
  task INTEGER NOT NULL,
  run INTEGER NOT NULL,
  first_sequence INTEGER NOT NULL,
  last_sequence INTEGER NOT NULL,
  payload BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_of_task ON chunks (task, last_sequence);

CREATE TABLE agents (
  agent_type TEXT PRIMARY KEY,
  queued INTEGER NOT NULL DEFAULT 0,
  running INTEGER NOT NULL DEFAULT 0,
  dead INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE callers (
  agent_type TEXT NOT NULL,
  caller TEXT NOT NULL,
  queued INTEGER NOT NULL,
  turn INTEGER NOT NULL,
  PRIMARY KEY (agent_type, caller)
) STRICT, WITHOUT ROWID;
CREATE INDEX callers_in_turn ON callers (agent_type, turn);

CREATE TABLE caller_bytes (caller TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE consumers (
  instance TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  version TEXT NOT NULL,
  agent_types TEXT NOT NULL,
  places INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE attendance (sidecar TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT;
`;
