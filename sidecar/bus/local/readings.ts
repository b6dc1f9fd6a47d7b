/** Reads records, pages and counts of the file without changing it. */
import type { Consumer, ListOptions, QueueStatus, TaskPage } from '../log/task-log.ts';
import { TASK_ARROWS, type TaskKey, type TaskRecord } from '../log/task-record.ts';
import { shortAnswer } from './results.ts';
import type { TaskFile } from './task-file.ts';
import { recordOf, type TaskRow } from './task-rows.ts';
import { taskOf } from './task-steps.ts';

const RECORDS_AT_ONCE = 1_000;

export function recordWithResult(file: TaskFile, row: TaskRow): TaskRecord {
  return recordOf(row, shortAnswer(file, row));
}

export function get(file: TaskFile, key: TaskKey): TaskRecord | undefined {
  const row = taskOf(file, key);
  return row === undefined ? undefined : recordWithResult(file, row);
}

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
  return { records: page.map((row) => recordOf(row, undefined)), next };
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
  // Removes the sidecars that fell silent, so that the table has one row for each live sidecar.
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
