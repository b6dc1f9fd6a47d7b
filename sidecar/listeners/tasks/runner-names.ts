/** Finds the names of the agents that run tasks: a log knows the holder of a lease by its instance. */
import type { TaskLog } from '../../bus/log/task-log.ts';
import type { TaskRecord } from '../../bus/log/task-record.ts';

/** A name that is not known is asked for so often. */
const AGAIN_MS = 1_000;
/** More than the replicas of a fleet over a day of deploys. */
const MAX_NAMES = 10_000;

export class RunnerNames {
  private readonly names = new Map<string, string>();
  private readonly askedAtMs = new Map<string, number>();

  /** The name of the agent that runs the task; '' when nobody does, or nobody knows. */
  async of({ state, agentType, holder }: TaskRecord, log: TaskLog): Promise<string> {
    if (state !== 'running') return '';
    const known = this.names.get(holder);
    if (known !== undefined) return known;
    const nowMs = performance.now();
    if (nowMs - (this.askedAtMs.get(agentType) ?? Number.NEGATIVE_INFINITY) < AGAIN_MS) return '';
    if (this.names.size + this.askedAtMs.size > MAX_NAMES) {
      this.names.clear();
      this.askedAtMs.clear();
    }
    this.askedAtMs.set(agentType, nowMs);
    try {
      for (const { instance, name } of await log.consumers(agentType)) this.names.set(instance, name);
    } catch {
      // The task matters, and not who runs it.
    }
    return this.names.get(holder) ?? '';
  }
}
