/**
 * Tells a sidecar that uses the service, in the head of an answer, what the attempts before this answer have used: the
 * sidecar sees only the last one. Pure.
 */
import { parseUsd, REQUEST_USD_HEADER, USD_USED_HEADER, writeUsd } from '../../policy/money.ts';
import { parseTokenBudget, REQUEST_BUDGET_HEADER, TOKENS_USED_HEADER } from '../../policy/token-budget.ts';
import { type HttpHeaders, textOf } from '../shared/headers.ts';

export interface Spent {
  readonly tokens: number;
  /** Nano-dollars. */
  readonly nanos: number;
}

export const NOTHING_SPENT: Spent = { tokens: 0, nanos: 0 };

/** Adds the report to the head of an answer, where the request has said what it may use. */
export function tellSpent(answer: HttpHeaders, asked: HttpHeaders, { tokens, nanos }: Spent): void {
  if (asked[REQUEST_BUDGET_HEADER] !== undefined) answer[TOKENS_USED_HEADER] = String(Math.ceil(tokens));
  if (asked[REQUEST_USD_HEADER] !== undefined) answer[USD_USED_HEADER] = writeUsd(Math.ceil(nanos));
}

/** Reads the report of a service. */
export function spentBefore(answer: HttpHeaders): Spent {
  return {
    tokens: Math.max(0, parseTokenBudget(textOf(answer[TOKENS_USED_HEADER]) ?? '')),
    nanos: Math.max(0, parseUsd(textOf(answer[USD_USED_HEADER]) ?? '')),
  };
}
