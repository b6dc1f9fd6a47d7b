/**
 * Passes the token budget of a task through agents. An inbound call carries it as `outrigger-token-budget`; its agent's
 * model requests draw on it (`llm/`), and each call to another agent gets a part, which stays reserved until that
 * agent's sidecar reports how much it used:
 *
 *     caller ──budget 20000──▶ sidecar ──▶ agent ──▶ model
 *                                 │ half of what is left, or what the agent asks for
 *                                 └──budget 10000──▶ sidecar ──▶ agent ──▶ model
 *                                 ◀──tokens-used 1200──┘  the rest comes back
 *
 * If no report arrives for an attempt, its use is unknown and counts as its whole part: the sum is never overspent.
 */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { TOKEN_BUDGET_HEADER, type TokenBudget } from '../policy/token-budget.ts';
import type { CallWith } from './call-facts.ts';
import type { InboundCall } from './inbound-call.ts';
import { TOKENS_USED_HEADER } from './sidecar-fields.ts';

/** A call that gets a part of its owner's budget. */
export type GivingCall = CallWith<'lineage' | 'info'>;

/** Undefined for a call that came without a budget, or from a caller that may set none (`inbound.token_budget`). */
export function budgetOf({ tokenBudget, lineage }: InboundCall): TokenBudget | undefined {
  return tokenBudget < 0 ? undefined : lineage.drawOn(tokenBudget);
}

/**
 * The fields that give an attempt of an outbound call its part of the owner's budget; undefined when there is no
 * budget.
 */
export function giveTokens(call: GivingCall): readonly string[] | undefined {
  const { info, lineage } = call;
  const { owner } = lineage;
  const budget = owner === undefined ? undefined : budgetOf(owner);
  if (budget === undefined) return undefined;
  // The reservation of an earlier attempt, which has not reported its use.
  settleTokens(call, undefined);
  // An agent that passes the whole budget on does not ask for all of it.
  const asks = info.tokenBudget >= 0 && info.tokenBudget !== owner!.tokenBudget;
  const given = Math.min(asks ? info.tokenBudget : Math.floor(budget.left / 2), budget.left);
  lineage.take(budget, given);
  return [TOKEN_BUDGET_HEADER, String(given)];
}

/** @param used the reported number; undefined without a report */
export function settleTokens({ lineage }: GivingCall, used: number | undefined): void {
  const { given, owner } = lineage;
  if (given === undefined) return;
  lineage.settleGiven();
  budgetOf(owner!)?.settle(given, used ?? given.tokens);
}

/** The trailer that reports the tokens of an inbound call; requests that its agent left running count in full. */
export function usedTokensField({ tokenBudget, lineage }: InboundCall): readonly string[] | undefined {
  return tokenBudget < 0 ? undefined : [TOKENS_USED_HEADER, String(lineage.drawnTokens)];
}

/** Reads the last field: the sidecar adds its own behind one that an agent may have passed on. */
export function usedTokens(trailers: HeaderList): number | undefined {
  const { fields } = trailers;
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    if (fields[i] !== TOKENS_USED_HEADER) continue;
    return /^\d{1,15}$/.test(fields[i + 1]!) ? Number(fields[i + 1]) : undefined;
  }
  return undefined;
}
