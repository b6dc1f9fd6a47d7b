/** Bounds the tokens of an answer: how many are reserved for it, and where it is cut. Pure. */

import { maxOutputField, type RequestFacts } from '../request/request-facts.ts';
import type { Spending } from '../request/spending.ts';
import type { LlmLimitSettings } from '../shared/llm-settings.ts';
import type { Operation } from '../shared/operation.ts';
import type { RequestChanges } from './added-fields.ts';

/** Returns the request's own maximum for the answer, or the assumed one where it names none. */
export function outputReserve(facts: RequestFacts, limits: LlmLimitSettings): number {
  if (facts.maxOutputTokens > 0) return facts.maxOutputTokens;
  return maxOutputField(facts.operation) === undefined ? 0 : limits.defaultOutputTokens * facts.choices;
}

/** Returns the most that all answers to a request with a budget may have; a maximum that we set holds for each answer. */
export function outputBound(
  operation: Operation,
  { choices, outputTokens }: Spending,
  changes: RequestChanges,
  limits: LlmLimitSettings,
): number {
  if (maxOutputField(operation) === undefined) return 0;
  return choices * (changes.maxOutputTokens || outputTokens || limits.defaultOutputTokens);
}
