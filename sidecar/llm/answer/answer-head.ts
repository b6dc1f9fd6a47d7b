/**
 * Keeps the head of a provider's answer. It counts with what is held of the answer until the caller gets it; from then on only what
 * a later failure may ask of it is kept. Pure.
 */

import type { HttpHeaders } from '../shared/headers.ts';
import type { HeldBytes } from './held-answers.ts';

/** A smaller one is not worth the work of taking it apart. */
const SMALL_BYTES = 4_096;
/** What a failure asks a head for (`provider/describe-failure.ts`). Longer values than these have are none of it. */
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
const MAX_ASKED_LENGTH = 128;
const NO_HEADERS: HttpHeaders = {};

export class AnswerHead {
  /** 0 before it is here. */
  status = 0;
  headers: HttpHeaders = NO_HEADERS;
  private readonly memory: HeldBytes;
  private costBytes = 0;
  private isCounted = false;

  constructor(memory: HeldBytes) {
    this.memory = memory;
  }

  /** It has come. False: there is no room to hold it. */
  take(status: number, headers: HttpHeaders, costBytes: number): boolean {
    this.status = status;
    this.headers = headers;
    this.costBytes = costBytes;
    this.isCounted = this.memory.add(costBytes);
    return this.isCounted;
  }

  /** The caller has it. */
  passOn(): void {
    if (this.costBytes > SMALL_BYTES) this.headers = askedOf(this.headers);
    this.uncount();
  }

  /** Nobody asks for anything of it any more. */
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
