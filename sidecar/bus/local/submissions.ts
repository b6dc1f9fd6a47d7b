/** Submits tasks to the file: stores, joins or refuses them, and gives dead ones another generation. */
import type { FullPart, SubmitOptions, Submitted } from '../log/task-log.ts';
import { TASK_BYTES } from '../log/task-log-settings.ts';
import type { NewTask, TaskKey } from '../log/task-record.ts';
import { type Wish, wantedBy } from '../log/wanted.ts';
import { addRequest, callerBytes } from './caller-bytes.ts';
import { join } from './callers.ts';
import { passTime } from './passing-time.ts';
import { recordWithResult } from './readings.ts';
import type { TaskFile } from './task-file.ts';
import { recordOf, type TaskRow } from './task-rows.ts';
import { countNew, dueWhileQueued, finite, forget, taskOf } from './task-steps.ts';

export function submit(file: TaskFile, task: NewTask, { joinEndedForMs, waiter }: SubmitOptions): Submitted {
  const before = currentTask(file, task.key);
  const wish = wishOf(file, task, waiter);
  if (before !== undefined && isJoined(before, joinEndedForMs, file.nowMs))
    return { outcome: 'joined', record: recordWithResult(file, join(file, before, wish)) };
  const reason = fullPart(file, task);
  if (reason !== undefined) return { outcome: 'refused', reason };
  if (before !== undefined) forget(file, before);
  return { outcome: 'stored', record: recordOf(insert(file, task, before, wish), undefined) };
}

function wishOf(file: TaskFile, { timeLeftMs }: NewTask, waiter: string | undefined): Wish {
  const { nowMs, settings } = file;
  // The column takes whole numbers, and a deadline is rarely one.
  return { waiter, waitsUntilMs: nowMs + settings.leaseMs, deadlineAtMs: Math.ceil(nowMs + timeLeftMs) };
}

export function retryDead(file: TaskFile, key: TaskKey): boolean {
  const dead = currentTask(file, key);
  if (dead?.state !== 'dead') return false;
  const { payload } = file.get<{ payload: Uint8Array }>(
    'SELECT payload FROM requests WHERE task = ?',
    dead.id,
  )!;
  forget(file, dead);
  const { digest, agent_type: agentType, publisher, caller } = dead;
  // Its caller waits no longer, so the deadline of that time means nothing.
  const timeLeftMs = Number.POSITIVE_INFINITY;
  const task = { key, digest, agentType, publisher, caller, timeLeftMs, payload: payload as Buffer };
  insert(file, task, dead, wishOf(file, task, undefined));
  return true;
}

export function dropDead(file: TaskFile, key: TaskKey): boolean {
  const dead = currentTask(file, key);
  if (dead?.state !== 'dead') return false;
  forget(file, dead);
  return true;
}

/** The task as it is now, also where time has changed it and nobody has seen to it yet. */
export function currentTask(file: TaskFile, key: TaskKey): TaskRow | undefined {
  const row = taskOf(file, key);
  if (row === undefined || row.due_at === null || row.due_at > file.nowMs) return row;
  passTime(file, row);
  return taskOf(file, key);
}

function isJoined({ state, ended_at }: TaskRow, joinEndedForMs: number, nowMs: number): boolean {
  if (state === 'queued' || state === 'running') return true;
  return state === 'done' && nowMs - ended_at <= joinEndedForMs;
}

/** Returns what has no room for the task. */
function fullPart(file: TaskFile, task: NewTask): FullPart | undefined {
  const { settings } = file;
  const agent = file.get<{ queued: number }>(
    'SELECT queued FROM agents WHERE agent_type = ?',
    task.agentType,
  );
  if ((agent?.queued ?? 0) >= settings.maxQueuedPerAgent) return 'agent_full';
  const caller = file.get<{ queued: number }>(
    'SELECT queued FROM callers WHERE agent_type = ? AND caller = ?',
    task.agentType,
    task.caller,
  );
  if ((caller?.queued ?? 0) >= settings.maxQueuedPerCaller) return 'caller_full';
  const { length } = task.payload;
  if (callerBytes(file, task.caller) + length + TASK_BYTES > settings.maxQueuedBytesPerCaller)
    return 'caller_bytes_full';
  if (file.requestBytes + length > settings.maxQueuedBytes) return 'bytes_full';
  return file.resultBytes >= settings.resultsMaxBytes ? 'store_full' : undefined;
}

function insert(file: TaskFile, task: NewTask, before: TaskRow | undefined, wish: Wish): TaskRow {
  const { nowMs } = file;
  const { maxAgeMs } = file.settings;
  const row = {
    key: task.key,
    digest: task.digest,
    agent_type: task.agentType,
    publisher: task.publisher,
    caller: task.caller,
    generation: (before?.generation ?? 0) + 1,
    state: 'queued',
    submitted_at: nowMs,
    available_at: nowMs,
    expires_at: nowMs + maxAgeMs,
    max_age: maxAgeMs,
    deadline_at: finite(wish.deadlineAtMs),
    wanted: JSON.stringify(wantedBy(wish)),
    request_bytes: task.payload.length,
    changed: file.change,
  } as const;
  const names = Object.keys(row);
  const id = file.run(
    `INSERT INTO tasks (${names.join(', ')}, due_at) VALUES (${names.map(() => '?').join(', ')}, ?)`,
    ...Object.values(row),
    dueWhileQueued(row, nowMs),
  );
  file.run('INSERT INTO requests VALUES (?, ?)', id, task.payload);
  addRequest(file, task.caller, task.payload.length);
  countNew(file, task.agentType, task.caller);
  return file.get<TaskRow>('SELECT * FROM tasks WHERE id = ?', id)!;
}
