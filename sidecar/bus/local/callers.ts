/** The callers that wait for tasks of the file: they join, leave, and their sidecars say that they are there. */
import type { TaskKey } from '../log/task-record.ts';
import { CALLER_LEFT, isWanted, joined, type Leaving, left, type Wanted, type Wish } from '../log/wanted.ts';
import type { TaskFile } from './task-file.ts';
import type { TaskRow } from './task-rows.ts';
import { dueWhileQueued, dueWhileRunning, end, finite, taskOf, update } from './task-steps.ts';

/** Another asks for a task that is there. */
export function join(file: TaskFile, row: TaskRow, wish: Wish): TaskRow {
  if (row.state !== 'queued' && row.state !== 'running') return row;
  const next = joined(askedFor(row), wish);
  return next === undefined ? row : store(file, row, next);
}

export function leave(file: TaskFile, key: TaskKey, waiter: string, leaving: Leaving): undefined {
  const row = taskOf(file, key);
  if (row === undefined || (row.state !== 'queued' && row.state !== 'running')) return;
  const next = left(askedFor(row), waiter, leaving);
  if (next === undefined) return;
  if (leaving === 'vanished' || isStillWanted(file, next.wanted)) store(file, row, next);
  else end(file, row, 'cancelled', { cause: CALLER_LEFT });
}

export function attend(file: TaskFile, sidecar: string): undefined {
  // Removes the sidecars that fell silent, so that the table has one row for each live sidecar.
  file.run('DELETE FROM attendance WHERE expires_at <= ?', file.nowMs);
  file.run('INSERT OR REPLACE INTO attendance VALUES (?, ?)', sidecar, file.nowMs + file.settings.leaseMs);
}

function isStillWanted(file: TaskFile, wanted: Wanted): boolean {
  const wants = isWanted(wanted, file.nowMs);
  if (typeof wants === 'string') return wants === 'yes';
  return wants.unsure.some(
    (sidecar) =>
      file.get('SELECT 1 FROM attendance WHERE sidecar = ? AND expires_at > ?', sidecar, file.nowMs) !==
      undefined,
  );
}

interface AskedFor {
  readonly wanted: Wanted;
  readonly deadlineAtMs: number;
}

function askedFor({ wanted, deadline_at }: TaskRow): AskedFor {
  return {
    wanted: JSON.parse(wanted) as Wanted,
    deadlineAtMs: deadline_at ?? Number.POSITIVE_INFINITY,
  };
}

function store(file: TaskFile, row: TaskRow, { wanted, deadlineAtMs }: AskedFor): TaskRow {
  const deadline_at = finite(deadlineAtMs);
  const due_at =
    row.state === 'queued'
      ? dueWhileQueued({ ...row, deadline_at }, file.nowMs)
      : dueWhileRunning({ deadline_at }, row.lease_until ?? Number.POSITIVE_INFINITY);
  return update(file, row, { wanted: JSON.stringify(wanted), deadline_at, due_at });
}
