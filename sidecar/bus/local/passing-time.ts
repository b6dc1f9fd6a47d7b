/** Makes the changes that time alone brings: leases and deadlines end, delays are over, tasks are too old, what is kept is forgotten. */
import { afterLoss } from '../log/lost-runs.ts';
import type { TaskFile } from './task-file.ts';
import type { TaskRow } from './task-rows.ts';
import { dueWhileQueued, end, forget, queueAgain, uncounted, update } from './task-steps.ts';

/** One transaction sees to at most so many tasks, so that others get their turn. */
const TASKS_AT_ONCE = 200;

/** Sees to tasks whose time has come. */
export function passDueTime(file: TaskFile): void {
  const due = file.all<TaskRow>(
    'SELECT * FROM tasks WHERE due_at <= ? ORDER BY due_at LIMIT ?',
    file.nowMs,
    TASKS_AT_ONCE,
  );
  for (const row of due) passTime(file, row);
}

export function nextDueMs(file: TaskFile): number {
  const next = file.get<{ due_at: number | null }>(
    'SELECT min(due_at) AS due_at FROM tasks WHERE due_at IS NOT NULL',
  );
  return next?.due_at ?? Number.POSITIVE_INFINITY;
}

export function passTime(file: TaskFile, row: TaskRow): void {
  const { nowMs } = file;
  if (row.state !== 'queued' && row.state !== 'running') forget(file, row);
  else if (row.deadline_at !== null && row.deadline_at <= nowMs)
    end(file, row, 'cancelled', { cause: 'its deadline has passed' });
  else if (row.state === 'running')
    loseRun(file, row, 'its sidecar gave no sign of life until its lease ended');
  else if (row.expires_at <= nowMs)
    end(file, row, 'dead', {
      cause: `it waited longer than publish.max_age (${Math.round(row.max_age / 1_000)} s): start consumers for ${row.agent_type}`,
    });
  else {
    file.hasNewTask = true;
    update(file, row, { due_at: dueWhileQueued(row, nowMs) });
  }
}

/** A run has ended without a result. It doesn't count when it never began. */
export function loseRun(file: TaskFile, row: TaskRow, cause: string): void {
  const { nowMs } = file;
  const expires_at = nowMs + row.max_age;
  if (row.began === 0) {
    queueAgain(file, row, { ...uncounted(row), expires_at });
    return;
  }
  const lost_runs = row.lost_runs + 1;
  const next = afterLoss(lost_runs, {
    maxRuns: row.max_runs,
    retryDelay: { baseMs: row.retry_base, maxMs: row.retry_max },
  });
  if (next.next === 'again')
    queueAgain(file, row, { lost_runs, expires_at, available_at: Math.ceil(nowMs + next.delayMs) });
  else
    end(file, row, 'dead', {
      lost_runs,
      cause: `${lost_runs} of its runs were lost, the last one because ${cause}`,
    });
}
