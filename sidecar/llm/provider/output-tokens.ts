/** Says how many tokens an answer may have: what is reserved for it, and where it is cut. Pure. */

import { maxOutputField, type RequestFacts } from '../request/request-facts.ts';
import type { Spending } from '../request/spending.ts';
import type { LlmLimitSettings } from '../shared/llm-settings.ts';
import type { Operation } from '../shared/operations.ts';
import type { RequestChanges } from './added-fields.ts';

/** What the answer may have: by the request's own words, or what is assumed where it is silent. */
export function outputReserve(facts: RequestFacts, limits: LlmLimitSettings): number {
  if (facts.maxOutputTokens > 0) return facts.maxOutputTokens;
  return maxOutputField(facts.operation) === undefined ? 0 : limits.defaultOutputTokens * facts.choices;
}

/** The most that all answers to a request with a budget may have; a maximum that we set holds for each of them. */
export function outputBound(
  operation: Operation,
  { choices, outputTokens }: Spending,
  changes: RequestChanges,
  limits: LlmLimitSettings,
): number {
  if (maxOutputField(operation) === undefined) return 0;
  return choices * (changes.maxOutputTokens || outputTokens || limits.defaultOutputTokens);
}
