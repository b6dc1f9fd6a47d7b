/** The token budgets of tasks that have none from the call they belong to. */
import { TokenBudget } from '../policy/token-budget.ts';

/** Tasks that are remembered; the one that was quiet for longest goes first. */
const MAX_TASKS = 10_000;

export class TaskBudgets {
  /** In the order of their last use. */
  readonly #budgets = new Map<string, TokenBudget>();

  get size(): number {
    return this.#budgets.size;
  }

  /**
   * @param taskId '' for a request that tells no task: it is one of its own
   * @param total the budget of a task that is new
   */
  of(taskId: string, total: number): TokenBudget {
    if (taskId === '') return new TokenBudget(total);
    const budget = this.#budgets.get(taskId) ?? new TokenBudget(total);
    this.#budgets.delete(taskId);
    this.#budgets.set(taskId, budget);
    if (this.#budgets.size > MAX_TASKS) this.#forgetOne();
    return budget;
  }

  /** Not one that is in use: it would begin anew. */
  #forgetOne(): void {
    for (const [taskId, budget] of this.#budgets) {
      if (budget.reserved > 0) continue;
      this.#budgets.delete(taskId);
      return;
    }
  }
}
