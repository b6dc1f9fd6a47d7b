/**
 * Counts the most tokens that a request can use, whichever way its server reads it; token budgets go by it. Pure.
 *
 * Servers differ: one takes the first of two keys and another the last, one takes `"5"` for a number, one heeds `best_of`
 * and another only `n`. So the greatest of all readings counts, and a request that a server may read in a way that can't
 * be bounded here is refused.
 */
import type { Body } from '../shared/body.ts';
import { type Operation, traitsOf } from '../shared/operations.ts';
import type { JsonScan } from './json-scan.ts';

export interface Spending {
  /** More tokens than the input can have. */
  readonly inputTokens: number;
  /** Answers of all prompts together. */
  readonly choices: number;
  /** The most that each answer may have by the request's own words; 0 when it names no maximum. */
  readonly outputTokens: number;
  /** The caller's own maximum fields that some readers take for no maximum (-1, 0, null beside a number). */
  readonly unbounded: readonly string[];
}

/** Of a request that no budget counts, or that says nothing. */
export const NO_SPENDING: Spending = { inputTokens: 0, choices: 1, outputTokens: 0, unbounded: [] };

/** Fields that ask for several answers. */
const CHOICES = ['n', 'best_of'] as const;
/** A picture or a sound, in the request or only referred to: about what a large picture costs. */
export const TOKENS_PER_REFERENCE = 2_000;
/** `"5"`, `" 5 "` and `"1_000"`, as lenient readers take them. */
const NUMERAL = /^\s*\+?\d[\d_]*(?:\.\d*)?(?:e\+?\d+)?\s*$/i;

/**
 * @param scan of the whole body
 * @returns what it may use, or why that can't be said, in words for whoever sent it
 */
export function spendingOf(
  operation: Operation,
  body: Body,
  scan: JsonScan | undefined,
): Spending | { readonly fault: string } {
  // Nothing can be read in an empty body: the provider says what is wrong.
  if (scan === undefined || body.bytes === 0) return NO_SPENDING;
  if (!scan.isWhole || scan.isLenient) return { fault: 'its body is no JSON object as RFC 8259 has it' };
  if (scan.lookalike !== undefined)
    return {
      fault: `its key ${JSON.stringify(scan.lookalike)} is another one to a server that ignores case`,
    };
  const { data } = scan;
  if (data !== undefined && data.namedFiles > 0)
    return { fault: 'it names a file whose size is not known here; put the content into the request' };
  const { maxOutputFields } = traitsOf(operation);
  let choices = 1;
  for (const field of CHOICES) {
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

interface Reading {
  /** The greatest number that a reader finds; 0 where none finds one. */
  readonly most: number;
  /** The field is there, and a reader may find no bound in it. */
  readonly isNone: boolean;
}

/** Undefined when a value is no number to us and may be one to somebody else. */
function readingOf(scan: JsonScan, field: string): Reading | undefined {
  let most = 0;
  let nulls = 0;
  let isNone = false;
  const texts = scan.fields.get(field)?.texts ?? [];
  for (const text of texts) {
    const value = numberIn(text);
    if (value === undefined) return undefined;
    if (value === null) nulls++;
    else if (value > 0) most = Math.max(most, Math.ceil(value));
    else isNone = true;
  }
  // To all readers null alone is the same as nothing.
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

/** Why a request is refused where a budget holds. */
export function uncountable(because: string): string {
  return `the task has a budget of tokens, and those of this request can't be bounded: ${because}`;
}
