/** Finds the token budgets that a request draws on: the budget of its inbound call, and the budget of its task. */
import {
  JointBudget,
  MoneyBudget,
  nanosOf,
  parseTokenBudget,
  TOKEN_BUDGET_HEADER,
  TokenBudget,
  type TokenSource,
} from '../../policy/token-budget.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import type { OwnerCall } from '../shared/owner-call.ts';

/** The number of tasks whose budgets are remembered; the task that was quiet for longest is forgotten first. */
const MAX_TASKS = 10_000;

/**
 * Returns the name of a task among the tasks of all callers: two callers may use the same id, and must not use up each
 * other's budget. '' for a request that names no task, or may be for tasks of several callers.
 */
export function taskKey(ownerCall: OwnerCall | undefined, task: string): string {
  if (task === '' || ownerCall === undefined || ownerCall.callerScope === '') return task;
  return ownerCall.callerScope === undefined ? '' : `${ownerCall.callerScope} ${task}`;
}

export class TaskBudgets {
  /** In the order of their last use. */
  private readonly budgets = new Map<string, TokenBudget>();
  private readonly money = new Map<string, TokenBudget>();

  get size(): number {
    return this.budgets.size;
  }

  /**
   * Returns what a request draws on; undefined without any budget. The budget that came with the call can lower the
   * operator's, and never raise it. Without one, the request's own header may lower it.
   *
   * @param key by {@link taskKey}
   * @param tokensPerTask the operator's budget; 0 is none
   */
  forRequest(
    ownerCall: OwnerCall | undefined,
    key: string,
    headers: Headers,
    tokensPerTask: number,
  ): TokenSource | undefined {
    const ofCall = ownerCall?.budget;
    const given = ofCall === undefined ? parseTokenBudget(textOf(headers[TOKEN_BUDGET_HEADER]) ?? '') : -1;
    const operators = tokensPerTask || Number.POSITIVE_INFINITY;
    const total = given < 0 ? operators : Math.min(operators, given);
    if (!Number.isFinite(total)) return ofCall;
    const ofTask = this.of(key, total);
    return ofCall === undefined ? ofTask : new JointBudget(ofCall, ofTask);
  }

  /** Returns the money of a task, in nano-dollars; undefined without a limit. @param usdPerTask 0 is none */
  moneyOf(key: string, usdPerTask: number): TokenSource | undefined {
    if (usdPerTask === 0) return undefined;
    return kept(this.money, key, () => new MoneyBudget(nanosOf(usdPerTask)));
  }

  /**
   * @param key '' for a request that names no task: it has a budget of its own
   * @param total the budget of a new task
   */
  of(key: string, total: number): TokenBudget {
    return kept(this.budgets, key, () => new TokenBudget(total));
  }
}

function kept(budgets: Map<string, TokenBudget>, key: string, make: () => TokenBudget): TokenBudget {
  if (key === '') return make();
  const budget = budgets.get(key) ?? make();
  budgets.delete(key);
  budgets.set(key, budget);
  if (budgets.size > MAX_TASKS) forgetOne(budgets);
  return budget;
}

/** Keeps a budget that is in use: a new one would begin full. */
function forgetOne(budgets: Map<string, TokenBudget>): void {
  for (const [key, budget] of budgets) {
    if (budget.reserved > 0) continue;
    budgets.delete(key);
    return;
  }
}
