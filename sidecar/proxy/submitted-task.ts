/** Gives a task that an app submits to the bus what a call of it would carry: its path, and a part of the token budget. */
import { CALL_PATH_HEADER } from '../policy/call-path.ts';
import { type Reservation, TOKEN_BUDGET_HEADER, type TokenBudget } from '../policy/token-budget.ts';
import type { ProxyContext } from './context.ts';
import { pathOfUnknownOwner } from './ownership.ts';
import type { RequestInfo } from './request-info.ts';
import { budgetOf } from './task-budget.ts';

interface TaskIds {
  readonly taskId: string;
  readonly correlationId: string;
}

/** What an outbound task gets of the inbound call that its app submits it for. */
export class SubmittedLineage {
  /** They replace those of the same names. */
  readonly fields: readonly string[];
  private readonly budget: TokenBudget | undefined = undefined;
  private readonly part: Reservation | undefined = undefined;

  constructor(
    context: Pick<ProxyContext, 'inboundCalls' | 'callPath'>,
    info: RequestInfo,
    { taskId, correlationId }: TaskIds,
  ) {
    const found = context.inboundCalls.ownerOf(info, taskId, correlationId);
    // Who submits beside an agent that works on one call may be another program: it has to name that call.
    const owner = found?.by === 'alone' ? undefined : found;
    const fields: string[] = [];
    if (owner !== undefined)
      fields.push(CALL_PATH_HEADER, info.callPath || owner.callPath || pathOfUnknownOwner(context));
    const budget = owner?.call === undefined ? undefined : budgetOf(owner.call);
    if (budget !== undefined) {
      // As for a call: an agent that passes the whole budget on does not ask for all of it.
      const asks = info.tokenBudget >= 0 && info.tokenBudget !== owner!.call!.tokenBudget;
      const tokens = Math.min(asks ? info.tokenBudget : Math.floor(budget.left / 2), budget.left);
      this.budget = budget;
      this.part = budget.reserve(tokens);
      fields.push(TOKEN_BUDGET_HEADER, String(tokens));
    }
    this.fields = fields;
  }

  /** Nobody will report what a stored task uses, which may outlive the call: it counts in full. */
  end(isStored: boolean): void {
    const { budget, part } = this;
    if (part !== undefined) budget?.settle(part, isStored ? part.tokens : 0);
  }
}
