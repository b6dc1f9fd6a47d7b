/**
 * The token budget of a task on its way through agents. An inbound call brings it as `outrigger-token-budget`; its
 * agent's requests to models draw on it (`llm/`), and each call to another agent is given a part, reserved until that
 * agent's sidecar says what was used of it:
 *
 *     caller ──budget 20000──▶ sidecar ──▶ agent ──▶ model
 *                                 │ half of what is left, or what the agent says
 *                                 └──budget 10000──▶ sidecar ──▶ agent ──▶ model
 *                                 ◀──tokens-used 1200──┘  the rest comes back
 *
 * What an attempt has used that never told is unknown, and counts as all it was given: the sum is never overspent.
 */
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { type Reservation, TOKEN_BUDGET_HEADER, TokenBudget } from '../policy/token-budget.ts';
import type { CallWith } from './call-facts.ts';
import type { InboundCall } from './inbound-call.ts';
import { TOKENS_USED_HEADER } from './sidecar-fields.ts';

/** A call that is given a part of its owner's budget. What it holds of it is written here. */
export interface GivingCall extends CallWith<'owner' | 'info'> {
  givenTokens: Reservation | undefined;
}

/** Made with the first request that draws on it. */
const budgets = new WeakMap<InboundCall, TokenBudget>();

/** Undefined for a call that came without one, or from a caller that may set none (`inbound.token_budget`). */
export function budgetOf(call: InboundCall): TokenBudget | undefined {
  const { tokenBudget } = call;
  if (tokenBudget < 0) return undefined;
  let budget = budgets.get(call);
  if (budget === undefined) {
    budget = new TokenBudget(tokenBudget);
    budgets.set(call, budget);
  }
  return budget;
}

/** What an attempt of an outbound call is given of its owner's budget, as fields; undefined when there is none. */
export function giveTokens(call: GivingCall): readonly string[] | undefined {
  const { owner, info } = call;
  const budget = owner === undefined ? undefined : budgetOf(owner);
  if (budget === undefined) return undefined;
  // Of an attempt before this one: nobody has told.
  settleTokens(call, undefined);
  // An agent that passes on all it was given has not asked for all of it.
  const asks = info.tokenBudget >= 0 && info.tokenBudget !== owner!.tokenBudget;
  const given = Math.min(asks ? info.tokenBudget : Math.floor(budget.left / 2), budget.left);
  call.givenTokens = budget.reserve(given);
  return [TOKEN_BUDGET_HEADER, String(given)];
}

/** @param used what the other side says; undefined when it does not */
export function settleTokens(call: GivingCall, used: number | undefined): void {
  const { givenTokens, owner } = call;
  if (givenTokens === undefined) return;
  call.givenTokens = undefined;
  budgetOf(owner!)?.settle(givenTokens, used ?? givenTokens.tokens);
}

/** The trailer that tells what an inbound call has used; what its agent has left running counts as used. */
export function usedTokensField(call: InboundCall): readonly string[] | undefined {
  if (call.tokenBudget < 0) return undefined;
  const budget = budgets.get(call);
  return [TOKENS_USED_HEADER, String(budget === undefined ? 0 : budget.spent + budget.reserved)];
}

/** By the trailers; the last one is the sidecar's, an agent may have passed on another's before it. */
export function usedTokens(trailers: HeaderList): number | undefined {
  const { fields } = trailers;
  for (let i = fields.length - 2; i >= 0; i -= 2) {
    if (fields[i] !== TOKENS_USED_HEADER) continue;
    return /^\d{1,15}$/.test(fields[i + 1]!) ? Number(fields[i + 1]) : undefined;
  }
  return undefined;
}
