/** Finds the token budgets that a request draws on: that of the call it is made for, and that of its task. */
import {
  JointBudget,
  parseTokenBudget,
  TOKEN_BUDGET_HEADER,
  TokenBudget,
  type TokenSource,
} from '../../policy/token-budget.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import type { OwnerCall } from '../shared/owner-call.ts';

/** Tasks that are remembered; the one that was quiet for longest goes first. */
const MAX_TASKS = 10_000;

/**
 * The name of a task among those of all callers: two may give theirs the same id, and must not use up each other's budget.
 * '' for a request that tells no task, or may be for tasks of several callers.
 */
export function taskKey(ownerCall: OwnerCall | undefined, task: string): string {
  if (task === '' || ownerCall === undefined || ownerCall.callerScope === '') return task;
  return ownerCall.callerScope === undefined ? '' : `${ownerCall.callerScope} ${task}`;
}

export class TaskBudgets {
  /** In the order of their last use. */
  private readonly budgets = new Map<string, TokenBudget>();

  get size(): number {
    return this.budgets.size;
  }

  /**
   * What a request draws on; undefined without any budget. The budget that came with its call can lower the operator's, and never
   * lift it. Without one the request's own header may lower it.
   *
   * @param key by {@link taskKey}
   * @param tokensPerTask the operator's; 0 is none
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

  /**
   * @param key '' for a request that tells no task: it is one of its own
   * @param total the budget of a task that is new
   */
  of(key: string, total: number): TokenBudget {
    if (key === '') return new TokenBudget(total);
    const budget = this.budgets.get(key) ?? new TokenBudget(total);
    this.budgets.delete(key);
    this.budgets.set(key, budget);
    if (this.budgets.size > MAX_TASKS) this.forgetOne();
    return budget;
  }

  /** Not one that is in use: it would begin anew. */
  private forgetOne(): void {
    for (const [key, budget] of this.budgets) {
      if (budget.reserved > 0) continue;
      this.budgets.delete(key);
      return;
    }
  }
}
