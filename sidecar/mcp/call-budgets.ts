/** Counts the calls of tools that each task has made. */
import { taskKey } from '../llm/limits/task-budgets.ts';
import type { McpRequest } from './message/mcp-request.ts';

/** The number of tasks that are remembered; the one that was quiet for longest is forgotten first. */
const MAX_TASKS = 10_000;

export class CallBudgets {
  /** In the order of their last call. */
  private readonly made = new Map<string, number>();

  /**
   * Counts calls, unless they are more than the task may still make.
   *
   * @param max calls per task; 0 is any number
   */
  take({ ownerCall, taskId }: Pick<McpRequest, 'ownerCall' | 'taskId'>, calls: number, max: number): boolean {
    const key = taskKey(ownerCall, taskId);
    if (max === 0 || key === '') return true;
    const made = (this.made.get(key) ?? 0) + calls;
    if (made > max) return false;
    this.made.delete(key);
    this.made.set(key, made);
    if (this.made.size > MAX_TASKS) this.made.delete(this.made.keys().next().value!);
    return true;
  }
}
