/** The steps of a task from state to state in the file: its row, the counts of its queue, and what is kept of it. */
import { step } from '../../errors/illegal-step.ts';
import { TASK_ARROWS, type TaskKey, type TaskState } from '../log/task-record.ts';
import { removeRequest } from './caller-bytes.ts';
import { dropAnswer } from './results.ts';
import type { TaskFile } from './task-file.ts';
import type { TaskRow } from './task-rows.ts';

type Columns = { readonly [Name in keyof TaskRow]?: TaskRow[Name] };

export function taskOf(file: TaskFile, key: TaskKey): TaskRow | undefined {
  return file.get<TaskRow>('SELECT * FROM tasks WHERE key = ?', key);
}

export function update(file: TaskFile, row: TaskRow, columns: Columns): TaskRow {
  const names = Object.keys(columns) as (keyof TaskRow)[];
  const set = names.map((name) => `${name} = ?`).join(', ');
  const values = names.map((name) => columns[name] as string | number | null);
  file.run(`UPDATE tasks SET ${set}, changed = ? WHERE id = ?`, ...values, file.change, row.id);
  return { ...row, ...columns };
}

/** Makes a task running. The caller that had its turn is the last one now. */
export function startRun(file: TaskFile, row: TaskRow, columns: Columns): TaskRow {
  count(file, row, 'running');
  file.run(
    'UPDATE callers SET turn = ? WHERE agent_type = ? AND caller = ?',
    file.nextTurn(),
    row.agent_type,
    row.caller,
  );
  return update(file, row, { ...columns, state: 'running' });
}

/** As before its run, which does not count. */
export function uncounted({ run, started_before }: TaskRow): Columns {
  return { run: run - 1, started_at: started_before };
}

/** Queues a running task again: what its run wrote is void. */
export function queueAgain(file: TaskFile, row: TaskRow, columns: Columns): TaskRow {
  count(file, row, 'queued');
  dropChunks(file, row);
  file.hasNewTask = true;
  return update(file, row, {
    ...columns,
    state: 'queued',
    holder: '',
    lease_until: null,
    run_sequence: 0,
    chunk_bytes: 0,
    due_at: dueWhileQueued({ ...row, ...columns }, file.nowMs),
  });
}

/** Ends a task. Its request is kept only where it may be needed again: of a dead one, whose chunks are void. */
export function end(
  file: TaskFile,
  row: TaskRow,
  state: 'done' | 'dead' | 'cancelled',
  columns: Columns = {},
): TaskRow {
  const { settings, nowMs } = file;
  const isDead = state === 'dead';
  count(file, row, state);
  if (isDead) dropChunks(file, row);
  else dropRequest(file, row);
  return update(file, row, {
    ...columns,
    state,
    request_bytes: isDead ? row.request_bytes : 0,
    chunk_bytes: isDead ? 0 : row.chunk_bytes,
    holder: '',
    ended_at: nowMs,
    lease_until: null,
    due_at: finite(nowMs + (isDead ? settings.deadMaxAgeMs : settings.resultsMaxAgeMs)),
  });
}

/** Removes an ended task with all that is kept of it. */
export function forget(file: TaskFile, row: TaskRow): void {
  if (row.state === 'dead') {
    file.run('UPDATE agents SET dead = dead - 1 WHERE agent_type = ?', row.agent_type);
    forgetAgent(file, row.agent_type);
    dropRequest(file, row);
  }
  dropChunks(file, row);
  if (row.state === 'done') dropAnswer(file, row);
  file.addResultBytes(-row.result_bytes);
  file.run('DELETE FROM tasks WHERE id = ?', row.id);
}

/** Counts a new task into its queue. A caller that had none there comes last. */
export function countNew(file: TaskFile, agentType: string, caller: string): void {
  file.run(
    'INSERT INTO agents (agent_type, queued) VALUES (?, 1) ON CONFLICT DO UPDATE SET queued = queued + 1',
    agentType,
  );
  enqueue(file, agentType, caller);
}

export function dueWhileQueued(
  { deadline_at, expires_at, available_at }: Pick<TaskRow, 'deadline_at' | 'expires_at' | 'available_at'>,
  nowMs: number,
): number | null {
  const availableAt = available_at > nowMs ? available_at : Number.POSITIVE_INFINITY;
  return finite(Math.min(deadline_at ?? Number.POSITIVE_INFINITY, expires_at, availableAt));
}

export function dueWhileRunning(
  { deadline_at }: Pick<TaskRow, 'deadline_at'>,
  leaseUntil: number,
): number | null {
  return finite(Math.min(deadline_at ?? Number.POSITIVE_INFINITY, leaseUntil));
}

/** A column holds a time that may never come in this way. */
export function finite(timeMs: number): number | null {
  return Number.isFinite(timeMs) ? timeMs : null;
}

/** Moves a task in the counts from its state to the next, which the drawing of states must allow. */
function count(file: TaskFile, row: TaskRow, to: TaskState): void {
  step(TASK_ARROWS, row.state, to);
  const { agent_type, caller, state } = row;
  const less = state === 'queued' ? 'queued = queued - 1' : 'running = running - 1';
  const more = to === 'queued' || to === 'running' || to === 'dead' ? `, ${to} = ${to} + 1` : '';
  file.run(`UPDATE agents SET ${less}${more} WHERE agent_type = ?`, agent_type);
  if (more === '') forgetAgent(file, agent_type);
  if (state === 'queued') dequeue(file, agent_type, caller);
  if (to === 'queued') enqueue(file, agent_type, caller);
}

/** Callers may name any agent type: those without tasks leave nothing. */
function forgetAgent(file: TaskFile, agentType: string): void {
  file.run('DELETE FROM agents WHERE agent_type = ? AND queued + running + dead = 0', agentType);
}

function enqueue(file: TaskFile, agentType: string, caller: string): void {
  file.hasNewTask = true;
  file.run(
    'INSERT INTO callers VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET queued = queued + 1',
    agentType,
    caller,
    file.nextTurn(),
  );
}

function dequeue(file: TaskFile, agentType: string, caller: string): void {
  const left = file.get<{ queued: number }>(
    'UPDATE callers SET queued = queued - 1 WHERE agent_type = ? AND caller = ? RETURNING queued',
    agentType,
    caller,
  );
  if (left?.queued === 0)
    file.run('DELETE FROM callers WHERE agent_type = ? AND caller = ?', agentType, caller);
}

function dropRequest(file: TaskFile, row: TaskRow): void {
  file.run('DELETE FROM requests WHERE task = ?', row.id);
  removeRequest(file, row.caller, row.request_bytes);
}

function dropChunks(file: TaskFile, row: TaskRow): void {
  if (row.last_sequence === 0) return;
  file.run('DELETE FROM chunks WHERE task = ?', row.id);
  file.addResultBytes(-row.chunk_bytes);
}
