/** Holds the body of a provider's error for a moment: it names the cause, such as a missing payment. Pure. */

import { isObject, type JsonObject } from '../../node/json.ts';
import type { ProviderKind } from '../kinds/traits.ts';
import { type Headers, textOf } from '../shared/headers.ts';
import { CHUNK_COST_BYTES, type HeldBytes } from './held-answers.ts';

/** How much of the body is held. */
const MAX_HELD_BYTES = 65_536;
/** After this time the decision uses what has come of the body. */
export const ERROR_BODY_MS = 5_000;

/** The statuses with which providers demand payment; some use 400. */
const STATUSES: ReadonlySet<number> = new Set([400, 402, 403, 429]);

/** Providers' words for an account without credit: waiting does not help, only a payment does. */
const BILLING_CODES: ReadonlySet<string> = new Set([
  'insufficient_quota',
  'billing_hard_limit_reached',
  'billing_not_active',
  'billing_error',
  'insufficient_balance',
  'insufficient_credits',
  'credits_exhausted',
]);
/** Anthropic has no code for it, only this message. */
const LOW_CREDIT = /^Your credit balance is too low/;
const PAYMENT_REQUIRED = 402;

export class ErrorBody {
  private readonly parts: Buffer[] = [];
  private bytes = 0;
  private readonly memory: HeldBytes;
  private countedBytes = 0;
  /** When the decision uses what has come. */
  readonly untilMs: number;

  constructor(nowMs: number, memory: HeldBytes) {
    this.untilMs = nowMs + ERROR_BODY_MS;
    this.memory = memory;
  }

  /** Returns false when it holds no more. */
  push(part: Buffer): boolean {
    this.parts.push(part);
    this.bytes += part.length;
    const cost = part.length + CHUNK_COST_BYTES;
    if (!this.memory.add(cost)) return false;
    this.countedBytes += cost;
    return this.bytes < MAX_HELD_BYTES;
  }

  /** Returns what has come, and no longer counts it. */
  take(): Buffer {
    this.memory.remove(this.countedBytes);
    this.countedBytes = 0;
    return this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts);
  }
}

/** Whether the body can be read before the decision what becomes of the request. */
export function isReadableError(headers: Headers): boolean {
  const encoding = textOf(headers['content-encoding']) ?? 'identity';
  return encoding === 'identity' && /\bjson\b|^text\/plain\b/i.test(textOf(headers['content-type']) ?? '');
}

/**
 * Returns the provider's word for a missing payment; undefined for another error.
 *
 * @param body the part of it that was held
 */
export function billingCode(status: number, body: Buffer): string | undefined {
  if (!STATUSES.has(status)) return undefined;
  const error = errorIn(body);
  const word = error === undefined ? undefined : billingWord(error);
  return word ?? (status === PAYMENT_REQUIRED ? 'payment_required' : undefined);
}

/** Returns the wait that an error's body asks for, at a kind of provider that writes it there; in milliseconds. */
export function waitInBody(
  kind: Pick<ProviderKind, 'waitInBody'>,
  status: number,
  body: Buffer,
): number | undefined {
  if (kind.waitInBody === undefined || (status !== 429 && status < 500)) return undefined;
  const error = errorIn(body);
  return error === undefined ? undefined : kind.waitInBody(error);
}

function errorIn(body: Buffer): JsonObject | undefined {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
  // Gemini puts its error in a list.
  const outer: unknown = Array.isArray(parsed) ? parsed[0] : parsed;
  if (!isObject(outer)) return undefined;
  return isObject(outer['error']) ? outer['error'] : outer;
}

/**
 * Returns the word for a missing payment in an error.
 *
 * @param error the object with its code and message
 */
export function billingWord(error: object): string | undefined {
  const { code, type, message } = error as { code?: unknown; type?: unknown; message?: unknown };
  for (const word of [code, type])
    if (typeof word === 'string' && BILLING_CODES.has(word.toLowerCase())) return word.toLowerCase();
  return typeof message === 'string' && LOW_CREDIT.test(message) ? 'credit_balance_too_low' : undefined;
}
