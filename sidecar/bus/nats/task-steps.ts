/** The steps of a task that nobody asks for: its deadline passes, it grows too old, its run is lost. Pure. */
import { afterLoss } from '../log/lost-runs.ts';
import type { TaskLogSettings } from '../log/task-log-settings.ts';
import type { StoredTask } from './stored-task.ts';

export const DEADLINE_CAUSE = 'its deadline has passed';

/** The task after the step that is due now; undefined when none is. */
export function dueStep(task: StoredTask, nowMs: number, settings: TaskLogSettings): StoredTask | undefined {
  if (task.state !== 'queued' && task.state !== 'running') return undefined;
  if (task.deadlineAtMs !== null && task.deadlineAtMs <= nowMs)
    return ended(task, 'cancelled', DEADLINE_CAUSE, nowMs);
  if (task.state === 'running') {
    if (task.leaseEndsAtMs > nowMs) return undefined;
    return lost(task, 'its sidecar gave no sign of life until the lease ended', nowMs, settings);
  }
  if (task.queuedSinceMs + settings.maxAgeMs <= nowMs) {
    return ended(
      task,
      'dead',
      `it waited longer than publish.max_age (${Math.round(settings.maxAgeMs / 1_000)} s): start consumers for ${task.agentType}`,
      nowMs,
    );
  }
  return undefined;
}

/** The task behind a run that was lost. */
export function lost(task: StoredTask, cause: string, nowMs: number, settings: TaskLogSettings): StoredTask {
  if (!task.begun) return givenBack(task, nowMs);
  const lostRuns = task.lostRuns + 1;
  const after = afterLoss(lostRuns, settings);
  if (after.next === 'dead') {
    const text = `run ${task.run} was lost, as ${task.lostRuns} before it: ${cause}`;
    return ended({ ...task, lostRuns }, 'dead', text, nowMs);
  }
  return {
    ...task,
    state: 'queued',
    lostRuns,
    holder: '',
    queuedSinceMs: nowMs,
    notBeforeMs: nowMs + after.delayMs,
  };
}

/** The task as before its run, which isn't counted. Chunks that it wrote keep their run's number for themselves. */
export function givenBack(task: StoredTask, nowMs: number, hasWritten = false): StoredTask {
  const uncounted = { run: task.run - 1, startedAtMs: task.startedBeforeMs };
  const queued = { ...task, state: 'queued', holder: '', queuedSinceMs: nowMs, notBeforeMs: 0 } as const;
  return hasWritten ? queued : { ...queued, ...uncounted };
}

export function ended(
  task: StoredTask,
  state: 'dead' | 'cancelled',
  cause: string,
  nowMs: number,
): StoredTask {
  return { ...task, state, cause, holder: '', endedAtMs: nowMs };
}
