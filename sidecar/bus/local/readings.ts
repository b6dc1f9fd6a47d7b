/** What is read of the file without changing it: records, pages, counts, and the events of a task. */
import type { Consumer, ListOptions, QueueStatus, TaskEvent, TaskPage } from '../log/task-log.ts';
import { hasEnded, TASK_ARROWS, type TaskKey, type TaskRecord } from '../log/task-record.ts';
import type { Watched, WatchPosition } from './requests.ts';
import type { TaskFile } from './task-file.ts';
import { bufferOf, recordOf, type TaskRow } from './task-rows.ts';
import { taskOf } from './task-steps.ts';

/** A watcher gets batches of chunks until they have so many bytes together. */
const BYTES_AT_ONCE = 256 * 1024;
const RECORDS_AT_ONCE = 1_000;
const NO_BYTES = new Uint8Array();

export function recordWithResult(file: TaskFile, row: TaskRow): TaskRecord {
  if (row.state !== 'done') return recordOf(row, undefined);
  const result = file.get<{ payload: Uint8Array }>('SELECT payload FROM results WHERE task = ?', row.id);
  return recordOf(row, result?.payload);
}

export function get(file: TaskFile, key: TaskKey): TaskRecord | undefined {
  const row = taskOf(file, key);
  return row === undefined ? undefined : recordWithResult(file, row);
}

/** The events after a position; undefined while there are none. */
export function eventsAfter(file: TaskFile, key: TaskKey, from: WatchPosition): Watched | undefined {
  const row = taskOf(file, key);
  if (row === undefined) return { events: [], position: from, isLast: true };
  const { generation } = row;
  let { afterSequence } = from;
  // Sequences of a new generation begin again.
  if (from.generation !== 0 && from.generation !== generation) afterSequence = 0;
  const record = recordWithResult(file, row);
  const mark = `${generation} ${row.state} ${row.run} ${row.lost_runs}`;
  const events: TaskEvent[] = [];
  // The end comes after the last chunk.
  if (mark !== from.mark && !hasEnded(record)) events.push({ kind: 'state', record });
  let bytes = 0;
  let areAllRead = true;
  const chunks = file.each<ChunkRow>(
    'SELECT * FROM chunks WHERE task = ? AND last_sequence > ? ORDER BY last_sequence',
    row.id,
    afterSequence,
  );
  for (const { run, first_sequence, last_sequence, payload } of chunks) {
    if (bytes >= BYTES_AT_ONCE) {
      areAllRead = false;
      break;
    }
    const count = last_sequence - first_sequence + 1;
    events.push({
      kind: 'chunks',
      batch: { run, firstSequence: first_sequence, count, payload: bufferOf(payload) },
    });
    bytes += payload.length;
    afterSequence = last_sequence;
  }
  const isLast = hasEnded(record) && areAllRead;
  if (isLast) events.push({ kind: 'state', record });
  if (events.length === 0) return undefined;
  return { events, position: { mark: hasEnded(record) ? '' : mark, generation, afterSequence }, isLast };
}

interface ChunkRow {
  readonly run: number;
  readonly first_sequence: number;
  readonly last_sequence: number;
  readonly payload: Uint8Array;
}

/** The results of a page come without their payloads. */
export function list(file: TaskFile, { caller, agentType, state, limit, after }: ListOptions): TaskPage {
  const filters: [string, string | number | undefined][] = [
    ['caller = ?', caller],
    ['agent_type = ?', agentType],
    ['id < ?', after === undefined ? undefined : Number(after)],
  ];
  const used = filters.filter(([, value]) => value !== undefined);
  // In the statement's text, so that SQLite may use the indexes of running and dead tasks.
  if (state !== undefined && state in TASK_ARROWS) used.push([`state = '${state}'`, undefined]);
  const where = used.length === 0 ? '' : `WHERE ${used.map(([sql]) => sql).join(' AND ')}`;
  const most = Math.min(Math.max(limit, 1), RECORDS_AT_ONCE);
  const rows = file.all<TaskRow>(
    `SELECT * FROM tasks ${where} ORDER BY id DESC LIMIT ?`,
    ...used.flatMap(([, value]) => value ?? []),
    most + 1,
  );
  const page = rows.slice(0, most);
  const next = rows.length > most ? String(page.at(-1)?.id) : undefined;
  return { records: page.map((row) => recordOf(row, NO_BYTES)), next };
}

/** Whether `next` of a page may be this. */
export function isPlace(after: string): boolean {
  return /^[1-9]\d{0,14}$/.test(after);
}

export function status(file: TaskFile): QueueStatus[] {
  const agents = file.all<
    Omit<QueueStatus, 'agentType' | 'oldestMs'> & { agent_type: string; oldest: number | null }
  >(
    `SELECT agents.*, (SELECT min(available_at) FROM tasks WHERE state = 'queued' AND tasks.agent_type = agents.agent_type)
     AS oldest FROM agents WHERE queued + running + dead > 0 ORDER BY agent_type`,
  );
  return agents.map(({ agent_type, queued, running, dead, oldest }) => ({
    agentType: agent_type,
    queued,
    running,
    dead,
    oldestMs: oldest === null ? 0 : Math.max(0, file.nowMs - oldest),
  }));
}

export function announce(
  file: TaskFile,
  { instance, name, version, agentTypes, places }: Consumer,
): undefined {
  if (places === 0) {
    file.run('DELETE FROM consumers WHERE instance = ?', instance);
    return;
  }
  // Those that fell silent, so that the table is no longer than there are sidecars.
  file.run('DELETE FROM consumers WHERE expires_at <= ?', file.nowMs);
  file.run(
    'INSERT OR REPLACE INTO consumers VALUES (?, ?, ?, ?, ?, ?)',
    instance,
    name,
    version,
    JSON.stringify(agentTypes),
    places,
    file.nowMs + file.settings.leaseMs,
  );
}

export function consumers(file: TaskFile, agentType: string): Consumer[] {
  const rows = file.all<Omit<Consumer, 'agentTypes'> & { agent_types: string }>(
    'SELECT * FROM consumers WHERE expires_at > ? ORDER BY instance',
    file.nowMs,
  );
  return rows
    .map(({ instance, name, version, places, agent_types }) => ({
      instance,
      name,
      version,
      places,
      agentTypes: JSON.parse(agent_types) as string[],
    }))
    .filter(({ agentTypes }) => agentTypes.includes(agentType));
}
