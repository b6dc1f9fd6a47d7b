/**
 * Counts the most tokens that a request can use, whichever way its server reads it; token budgets use the result. Pure.
 *
 * Servers differ: one takes the first of two equal keys and another the last, one takes `"5"` for a number, one heeds
 * `best_of` and another only `n`. So the greatest of all readings counts, and the egress refuses a request that a server
 * may read in a way that it can't bound.
 */

import { traitsOf } from '../kinds/operations.ts';
import type { Body } from '../shared/body.ts';
import type { Operation } from '../shared/operation.ts';
import { textsOf } from './json-field-path.ts';
import type { JsonScan } from './json-scan.ts';

export interface Spending {
  /** More tokens than the input can have. */
  readonly inputTokens: number;
  /** The number of answers to all prompts together. */
  readonly choices: number;
  /** The request's own maximum for each answer; 0 without one. */
  readonly outputTokens: number;
  /** The caller's fields for a maximum that some servers take for none (-1, 0, null beside a number). */
  readonly unbounded: readonly string[];
}

/** The spending of a request without a budget, or without a body. */
export const NO_SPENDING: Spending = { inputTokens: 0, choices: 1, outputTokens: 0, unbounded: [] };

/** What a picture or a sound costs, in the request or by reference: about as much as a large picture. */
export const TOKENS_PER_REFERENCE = 2_000;
/** `"5"`, `" 5 "` and `"1_000"`, which lenient servers read as numbers. */
const NUMERAL = /^\s*\+?\d[\d_]*(?:\.\d*)?(?:e\+?\d+)?\s*$/i;

/**
 * @param scan the scan of the whole body
 * @returns what the request may use, or why that is unknown, in words for its sender
 */
export function spendingOf(
  operation: Operation,
  body: Body,
  scan: JsonScan | undefined,
): Spending | { readonly fault: string } {
  // An empty body says nothing: the provider names the fault.
  if (scan === undefined || body.bytes === 0) return NO_SPENDING;
  if (!scan.isWhole || scan.isLenient) return { fault: 'its body is no JSON object as RFC 8259 has it' };
  if (scan.lookalike !== undefined)
    return {
      fault: `its key ${JSON.stringify(scan.lookalike)} is another one to a server that ignores case; write it as the API does`,
    };
  const { data } = scan;
  if (data !== undefined && data.namedFiles > 0)
    return { fault: 'it names a file whose size is not known here; put the content into the request' };
  const { choicesFields, maxOutputFields, unseenFields } = traitsOf(operation);
  const unseen = unseenFields.find((field) => isGiven(scan, field));
  if (unseen !== undefined)
    return {
      fault: `its key "${unseen}" names what is not in the request; put the content into the request`,
    };
  if (scan.providerTool !== undefined)
    return {
      fault: `its tool "${scan.providerTool}" is run by the provider, at a cost that the request does not bound; use tools of the agent's own`,
    };
  let choices = 1;
  for (const field of choicesFields) {
    const reading = readingOf(scan, field);
    if (reading === undefined) return { fault: unreadable(field) };
    choices = Math.max(choices, reading.most);
  }
  let outputTokens = 0;
  const unbounded: string[] = [];
  for (const field of maxOutputFields) {
    const reading = readingOf(scan, field);
    if (reading === undefined) return { fault: unreadable(field) };
    outputTokens = Math.max(outputTokens, reading.most);
    if (reading.isNone) unbounded.push(field);
  }
  const prompts = operation === 'completions' ? Math.max(1, scan.fields.get('prompt')?.elements ?? 0) : 1;
  return {
    // A token has at least a byte.
    inputTokens: Math.max(0, body.bytes - (data?.bytes ?? 0)) + scan.parts * TOKENS_PER_REFERENCE,
    choices: choices * prompts,
    outputTokens,
    unbounded,
  };
}

/** All servers read null as an absent field. */
export function isGiven(scan: JsonScan, field: string): boolean {
  const given = scan.fields.get(field);
  return given !== undefined && !given.texts.every((text) => text === 'null');
}

interface Reading {
  /** The greatest number that a server reads; 0 where none reads one. */
  readonly most: number;
  /** The field is there, and a server may read no bound in it. */
  readonly isNone: boolean;
}

/** Returns undefined for a value that is no number here, and may be one to a server. */
function readingOf(scan: JsonScan, field: string): Reading | undefined {
  let most = 0;
  let nulls = 0;
  let isNone = false;
  const texts = textsOf(scan, field);
  if (texts === undefined) return undefined;
  for (const text of texts) {
    const value = numberIn(text);
    if (value === undefined) return undefined;
    if (value === null) nulls++;
    else if (value > 0) most = Math.max(most, Math.ceil(value));
    else isNone = true;
  }
  // All servers read null alone as an absent field.
  return { most, isNone: isNone || (nulls > 0 && nulls < texts.length) };
}

function numberIn(text: string | undefined): number | null | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text ?? '');
  } catch {
    return undefined;
  }
  if (typeof value === 'string' && NUMERAL.test(value)) value = Number(value.replaceAll('_', ''));
  return typeof value === 'number' || value === null ? value : undefined;
}

function unreadable(field: string): string {
  return `the value of its key "${field}" is no number`;
}

/** Returns the message that refuses a request of a task with a budget. */
export function uncountable(because: string): string {
  return `the task, or its caller, has a budget, and what this request may use can't be bounded: ${because}`;
}
