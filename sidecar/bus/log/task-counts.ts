/** Counts what this sidecar does with tasks, by agent type: `outrigger_bus_tasks_total`. */

/**
 * `published`: this sidecar stored it. `delivered`: its agent began to run it. `settled`: its result was stored. `lost`: the run
 * ended without a result, because of the agent, or because the log could not store it. `given_back`: the run was not counted, and the task waits again. `fenced`: the
 * run went on although its lease was over, or its task cancelled. `dead`: it went to the dead letters.
 */
export const TASK_OUTCOMES = [
  'published',
  'delivered',
  'settled',
  'lost',
  'given_back',
  'fenced',
  'dead',
] as const;
export type TaskOutcomeName = (typeof TASK_OUTCOMES)[number];

/** The agent types come from the configuration, or from callers of `outrigger.v1.Tasks`: so many are counted by name. */
const MAX_TYPES = 256;
const OTHER = 'other';

export class TaskCounts {
  private readonly byType = new Map<string, Record<TaskOutcomeName, number>>();

  /** Begins at 0, so that a series exists before its first task. */
  declare(agentType: string): void {
    this.of(agentType);
  }

  count(agentType: string, outcome: TaskOutcomeName): void {
    this.of(agentType)[outcome]++;
  }

  *entries(): Generator<readonly [agentType: string, counts: Readonly<Record<TaskOutcomeName, number>>]> {
    yield* this.byType;
  }

  private of(agentType: string): Record<TaskOutcomeName, number> {
    let counts = this.byType.get(agentType);
    if (counts !== undefined) return counts;
    const name = this.byType.size < MAX_TYPES ? agentType : OTHER;
    counts = this.byType.get(name);
    if (counts !== undefined) return counts;
    counts = { published: 0, delivered: 0, settled: 0, lost: 0, given_back: 0, fenced: 0, dead: 0 };
    this.byType.set(name, counts);
    return counts;
  }
}
