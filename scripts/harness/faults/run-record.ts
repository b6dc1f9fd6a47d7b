// The records of replicas, in files that survive a SIGKILL.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';

type RunEnd = 'ok' | 'failed' | 'aborted' | 'died' | 'answer_lost';

/**
 * One line of a record. `failed`: the replica answered an error or FAILED; `aborted`: the stream was reset;
 * `answer_lost`: the run succeeded, but its process was killed before the answer arrived.
 */
export interface RunEvent {
  readonly atMs: number;
  readonly pid: number;
  readonly run: number;
  readonly task: string;
  readonly event: 'began' | RunEnd | 'process_died' | 'process_killed';
}

/** One execution of a task by a replica. Times are milliseconds since the epoch. */
export interface Run {
  readonly task: string;
  readonly replica: string;
  readonly beganMs: number;
  endedMs: number;
  /** Undefined while it hangs, or its process is stopped. */
  end: RunEnd | undefined;
}

export function append(file: string, event: RunEvent): void {
  appendFileSync(file, `${JSON.stringify(event)}\n`);
}

/** The longest delay of an answer or a reset between two processes of one idle machine. */
export const TRAVEL_MS = 100;

/**
 * All runs of a replica, in the order of their start. No proxy can know of an answer that was lost with its process:
 * the task then runs again, as documented.
 *
 * @param travelMs how long an answer may take to leave the pod
 */
export function readRuns(file: string, replica: string, travelMs = TRAVEL_MS): Run[] {
  if (!existsSync(file)) return [];
  const runs = new Map<string, Run>();
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line === '') continue;
    const { atMs, pid, run, task, event } = JSON.parse(line) as RunEvent;
    const key = `${pid}/${run}`;
    if (event === 'began')
      runs.set(key, { task, replica, beganMs: atMs, endedMs: Number.POSITIVE_INFINITY, end: undefined });
    else if (event === 'process_died' || event === 'process_killed')
      for (const [key, found] of runs) {
        if (!key.startsWith(`${pid}/`)) continue;
        if (found.end === undefined) Object.assign(found, { end: 'died', endedMs: atMs });
        const onItsWay = found.end === 'ok' && found.endedMs > atMs - travelMs;
        if (event === 'process_killed' && onItsWay)
          Object.assign(found, { end: 'answer_lost', endedMs: Math.min(found.endedMs, atMs) });
      }
    else Object.assign(runs.get(key)!, { end: event, endedMs: atMs });
  }
  return [...runs.values()];
}

/**
 * Tasks that ran twice: a run began although an earlier one had succeeded or was in progress. A run that began after
 * all earlier ones had visibly failed (answered an error, died with their process, were reset) is a retry, and not a
 * task that ran twice.
 *
 * @param travelMs how late a replica may notice the end of a run's caller
 */
export function runTwice(runs: readonly Run[], travelMs = TRAVEL_MS): string[] {
  const twice: string[] = [];
  for (const [task, those] of byTask(runs)) {
    those.sort((a, b) => a.beganMs - b.beganMs);
    const again = those.some((run, index) =>
      those.slice(0, index).some((earlier) => holds(earlier, run, travelMs)),
    );
    if (again) twice.push(task);
  }
  return twice;
}

function holds(earlier: Run, later: Run, travelMs: number): boolean {
  if (earlier.end === 'ok') return true;
  const toleranceMs = earlier.end === 'aborted' ? travelMs : 0;
  return earlier.endedMs > later.beganMs + toleranceMs;
}

export function byTask(runs: readonly Run[]): Map<string, Run[]> {
  return Map.groupBy(runs, ({ task }) => task) as Map<string, Run[]>;
}

/** The highest number of concurrent runs. */
export function peakConcurrency(runs: readonly Run[]): number {
  const steps = runs.flatMap(({ beganMs, endedMs }) => [[beganMs, 1] as const, [endedMs, -1] as const]);
  steps.sort(([a, stepA], [b, stepB]) => a - b || stepA - stepB);
  let current = 0;
  let peak = 0;
  for (const [, step] of steps) peak = Math.max(peak, (current += step));
  return peak;
}
