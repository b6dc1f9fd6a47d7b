/** Outcomes of tasks in a few numbers, for the pages: what succeeded, what was saved, and what was paid for in vain. */
import type { Sidecar } from '../data-plane/sidecar.ts';
import { TASK_OUTCOMES } from '../telemetry/task-stats.ts';

const GOOD: ReadonlySet<string> = new Set(['SUCCESS', 'PARTIAL']);

export function tasksSnapshot({ inbound, outbound }: Sidecar) {
  let [succeeded, failed, useful, wasted, saved] = [0, 0, 0, 0, 0];
  for (const { byOutcome, usefulTokens, wastedTokens } of inbound.tasks.agents.values()) {
    byOutcome.forEach((count, at) => {
      if (GOOD.has(TASK_OUTCOMES[at]!)) succeeded += count;
      else failed += count;
    });
    useful += usefulTokens;
    wasted += wastedTokens;
  }
  for (const { retries } of outbound.clusters.clusters.values()) saved += retries.get('success') ?? 0;
  const { joined, replayed, refused } = inbound.taskRuns.store;
  return {
    /** Tasks of this sidecar's own agent. */
    succeeded,
    failed,
    /** Calls to other agents that succeeded only by a retry. */
    saved_by_retries: saved,
    /** Repeated tasks that the agent did not run again. */
    joined,
    replayed,
    refused,
    useful_tokens: useful,
    wasted_tokens: wasted,
  };
}
