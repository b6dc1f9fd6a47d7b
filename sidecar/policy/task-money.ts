/**
 * Keeps the money that the operator allows each task here (`llm.limits.usd_per_task`). The model requests of a task draw on
 * it, and so do the parts that its calls to other agents get. Pure.
 */
import { MoneyBudget, nanosOf } from './money.ts';
import type { TokenBudget } from './token-budget.ts';

/** The number of tasks whose budgets are remembered; the task that was quiet for longest is forgotten first. */
const MAX_TASKS = 10_000;

/**
 * Returns the name of a task among the tasks of all callers: two callers may use the same id, and must not use up each
 * other's budget. '' for a request that names no task, or may be for tasks of several callers.
 *
 * @param callerScope '' where nothing identifies the caller; undefined where it may be any of several
 */
export function nameOfTask(callerScope: string | undefined, task: string): string {
  if (task === '' || callerScope === '') return task;
  return callerScope === undefined ? '' : `${callerScope} ${task}`;
}

/** The budgets of tasks, in the order of their last use. */
export class KeptBudgets<Budget extends TokenBudget> {
  private readonly budgets = new Map<string, Budget>();

  get size(): number {
    return this.budgets.size;
  }

  /** @param key '' for a request that names no task: it has a budget of its own */
  of(key: string, make: () => Budget): Budget {
    const { budgets } = this;
    if (key === '') return make();
    const budget = budgets.get(key) ?? make();
    budgets.delete(key);
    budgets.set(key, budget);
    if (budgets.size > MAX_TASKS) this.forgetOne();
    return budget;
  }

  /** Keeps a budget that is in use: a new one would begin full. */
  private forgetOne(): void {
    for (const [key, budget] of this.budgets) {
      if (budget.reserved > 0) continue;
      this.budgets.delete(key);
      return;
    }
  }
}

export class TaskMoney {
  private readonly kept = new KeptBudgets<MoneyBudget>();
  /** Nano-dollars; Infinity without a limit. */
  perTask = Number.POSITIVE_INFINITY;

  /** @param usdPerTask 0 is no limit */
  limit(usdPerTask: number): void {
    this.perTask = nanosOf(usdPerTask) || Number.POSITIVE_INFINITY;
  }

  /** Returns the money of a task here; undefined without a limit. @param key by {@link nameOfTask} */
  of(key: string, total = this.perTask): MoneyBudget | undefined {
    return Number.isFinite(total) ? this.kept.of(key, () => new MoneyBudget(total)) : undefined;
  }
}
