/** Finds the budgets that a request draws on: those of its inbound call, and those of its task. */
import { nanosOf, parseUsd, USD_BUDGET_HEADER } from '../../policy/money.ts';
import { KeptBudgets, nameOfTask, TaskMoney } from '../../policy/task-money.ts';
import {
  JointBudget,
  parseTokenBudget,
  TOKEN_BUDGET_HEADER,
  TokenBudget,
  type TokenSource,
} from '../../policy/token-budget.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import type { OwnerCall } from '../shared/owner-call.ts';

/** Returns the name of a request's task among those of all callers; '' where it has none, or is not certain. */
export function taskKey(ownerCall: OwnerCall | undefined, task: string): string {
  return ownerCall === undefined ? task : nameOfTask(ownerCall.callerScope, task);
}

export class TaskBudgets {
  private readonly budgets = new KeptBudgets<TokenBudget>();
  private readonly money: TaskMoney;

  /** @param money the money of tasks here, on which their calls to other agents draw, too */
  constructor(money = new TaskMoney()) {
    this.money = money;
  }

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
    const total = smallerOf(tokensPerTask, given);
    return jointOf(ofCall, Number.isFinite(total) ? this.of(key, total) : undefined);
  }

  /** The same for money, in nano-dollars. @param usdPerTask the operator's budget; 0 is none */
  moneyFor(
    ownerCall: OwnerCall | undefined,
    key: string,
    headers: Headers,
    usdPerTask: number,
  ): TokenSource | undefined {
    const ofCall = ownerCall?.money;
    const given = ofCall === undefined ? parseUsd(textOf(headers[USD_BUDGET_HEADER]) ?? '') : -1;
    return jointOf(ofCall, this.money.of(key, smallerOf(nanosOf(usdPerTask), given)));
  }

  /**
   * @param key '' for a request that names no task: it has a budget of its own
   * @param total the budget of a new task
   */
  of(key: string, total: number): TokenBudget {
    return this.budgets.of(key, () => new TokenBudget(total));
  }
}

/** @param operators 0 is none @param given below 0 is none */
function smallerOf(operators: number, given: number): number {
  const most = operators || Number.POSITIVE_INFINITY;
  return given < 0 ? most : Math.min(most, given);
}

function jointOf(one: TokenSource | undefined, other: TokenSource | undefined): TokenSource | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return new JointBudget(one, other);
}
