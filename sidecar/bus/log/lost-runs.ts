/** Decides what follows a run that was lost with its sidecar or its lease. Pure. */
import type { TaskLogSettings } from './task-log-settings.ts';

/** `again`: queued once more, and taken no earlier than after `delayMs`. */
export type AfterLoss = { readonly next: 'again'; readonly delayMs: number } | { readonly next: 'dead' };

/** @param lostRuns with the one just lost */
export function afterLoss(
  lostRuns: number,
  { maxRuns, retryDelay }: Pick<TaskLogSettings, 'maxRuns' | 'retryDelay'>,
): AfterLoss {
  if (lostRuns >= maxRuns) return { next: 'dead' };
  return { next: 'again', delayMs: Math.min(retryDelay.maxMs, retryDelay.baseMs * 2 ** (lostRuns - 1)) };
}

/** From this many lost runs on, a task runs with no other beside it, so that it can't take others down with its agent. */
const ALONE_AFTER_LOST_RUNS = 2;

export function runsAlone({ lostRuns }: { readonly lostRuns: number }): boolean {
  return lostRuns >= ALONE_AFTER_LOST_RUNS;
}
