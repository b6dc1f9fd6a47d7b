/** Submits a task within its caller's time, also when the log's confirmation is lost. */
import { setTimeout as sleep } from 'node:timers/promises';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { SubmitOptions, Submitted, TaskLog } from '../log/task-log.ts';
import type { NewTask, TaskRecord } from '../log/task-record.ts';
import { busUnavailable, OUTCOME_UNKNOWN, type Refusal, refusedFor } from './refusals.ts';

/** A caller without a deadline waits so long for a confirmation. */
const LONGEST_WAIT_MS = 30_000;
/** The answer must be there before the caller's deadline, which would hide it. */
const MARGIN_SHARE = 0.1;
const LONGEST_MARGIN_MS = 100;
const AGAIN_MS = 50;
/** 31 years: a task whose deadline is further away has none. */
const LONGEST_TIME_MS = 1e12;

export type Submission =
  | { readonly record: TaskRecord; readonly outcome: 'stored' | 'joined' }
  | { readonly refusal: Refusal };

/**
 * @param timeLeftMs returns the caller's time, in milliseconds; Infinity without a deadline
 * @param taskTimeLeftMs returns the task's time, where it has one of its own
 */
export async function submitInTime(
  log: TaskLog,
  task: NewTask,
  options: SubmitOptions,
  timeLeftMs: () => number,
  taskTimeLeftMs = timeLeftMs,
): Promise<Submission> {
  const wholeMs = Math.min(timeLeftMs(), LONGEST_WAIT_MS);
  const endMs = performance.now() + wholeMs - Math.min(wholeMs * MARGIN_SHARE, LONGEST_MARGIN_MS);
  let isUnknown = false;
  for (;;) {
    const leftMs = endMs - performance.now();
    if (leftMs <= 0)
      return { refusal: isUnknown ? OUTCOME_UNKNOWN : busUnavailable('it gave no answer in time') };
    try {
      const timed = { ...task, timeLeftMs: storableTimeMs(taskTimeLeftMs()) };
      // A log that opens later must not store what nobody waits for any more.
      const waiting = log.submit(timed, { ...options, openWithinMs: leftMs - 1 });
      const submitted = await within(waiting, leftMs);
      if (submitted === undefined) return { refusal: OUTCOME_UNKNOWN };
      if (submitted.outcome === 'refused') return { refusal: refusedFor(submitted, task.agentType) };
      return submitted;
    } catch (error) {
      if (!(error instanceof LogUnavailableError)) throw error;
      isUnknown ||= error.isOutcomeUnknown;
      if (!isUnknown || error.isFinal) return { refusal: busUnavailable(error.message) };
    }
    // The same key finds the task, if it is there.
    await sleep(Math.min(AGAIN_MS, Math.max(0, endMs - performance.now())));
  }
}

async function within(submitted: Promise<Submitted>, ms: number): Promise<Submitted | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, ms, undefined);
  });
  // What becomes of it later, its caller can't be told.
  submitted.catch(() => {});
  try {
    return await Promise.race([submitted, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The time that every log can store. */
function storableTimeMs(timeLeftMs: number): number {
  return timeLeftMs > LONGEST_TIME_MS ? Number.POSITIVE_INFINITY : Math.max(0, timeLeftMs);
}
