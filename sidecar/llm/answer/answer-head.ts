/**
 * Keeps the head of a provider's answer. The head counts with what is held of the answer until the caller receives it;
 * from then on only the fields stay that a later failure may need. Pure.
 */

import type { HttpHeaders } from '../shared/headers.ts';
import type { HeldBytes } from './held-answers.ts';

/** Taking a smaller head apart is not worth the work. */
const SMALL_BYTES = 4_096;
/** The fields that a failure needs (`provider/describe-failure.ts`). */
const ASKED = [
  'x-should-retry',
  'retry-after-ms',
  'retry-after',
  'date',
  'x-ratelimit-remaining-requests',
  'x-ratelimit-reset-requests',
  'x-ratelimit-remaining-tokens',
  'x-ratelimit-reset-tokens',
] as const;
/** None of these fields has a longer value. */
const MAX_ASKED_LENGTH = 128;
const NO_HEADERS: HttpHeaders = {};

export class AnswerHead {
  /** 0 before the head is here. */
  status = 0;
  headers: HttpHeaders = NO_HEADERS;
  private readonly memory: HeldBytes;
  private costBytes = 0;
  private isCounted = false;

  constructor(memory: HeldBytes) {
    this.memory = memory;
  }

  /** Takes the head; returns false when there is no room to hold it. */
  take(status: number, headers: HttpHeaders, costBytes: number): boolean {
    this.status = status;
    this.headers = headers;
    this.costBytes = costBytes;
    this.isCounted = this.memory.add(costBytes);
    return this.isCounted;
  }

  /** The caller has received the head. */
  passOn(): void {
    if (this.costBytes > SMALL_BYTES) this.headers = askedOf(this.headers);
    this.uncount();
  }

  /** Frees the head: nothing needs it any more. */
  drop(): void {
    this.headers = NO_HEADERS;
    this.uncount();
  }

  private uncount(): void {
    if (this.isCounted) this.memory.remove(this.costBytes);
    this.isCounted = false;
  }
}

function askedOf(headers: HttpHeaders): HttpHeaders {
  const asked: HttpHeaders = {};
  for (const name of ASKED) {
    const value = headers[name];
    if (typeof value === 'string' && value.length <= MAX_ASKED_LENGTH) asked[name] = value;
  }
  return asked;
}
