/**
 * Remembers what a client's failed requests have used, so that the client's own retry continues where they ended: it
 * has what is left of their attempts, and goes first to an upstream that they have not tried.
 *
 * A retry carries no id of the request that it repeats. The egress recognises it by its bytes, its path and its
 * credentials, and by its count, which is higher by one.
 */
import { createHash } from 'node:crypto';
import { type Body, viewsOf } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { secretsOf } from '../shared/provider-credentials.ts';

/** What all tries of one request have used so far. */
export interface EarlierTries {
  /** The number of requests sent to providers. */
  readonly attempts: number;
  /** The names of the upstreams that received one. */
  readonly upstreams: ReadonlySet<string>;
}

export const NO_EARLIER_TRIES: EarlierTries = { attempts: 0, upstreams: new Set() };

interface Remembered extends EarlierTries {
  /** The client's count of retries, in the request that ended. */
  readonly count: number;
  readonly untilMs: number;
}

/** Clients retry within seconds, or after a `Retry-After` that they follow for at most two minutes. */
const KEPT_MS = 180_000;
const MAX_REQUESTS = 1_000;
/** How many equal requests that failed at about the same time are remembered. */
const MAX_EQUAL = 32;
/** How much of each end of a body is hashed: enough to distinguish requests, and no more work for a large one. */
const HASHED_BYTES = 65_536;

export class ClientRetries {
  /** By {@link retryKey}, in the order of their ends. */
  private readonly ended = new Map<string, Remembered[]>();

  get size(): number {
    return this.ended.size;
  }

  /** Remembers a request that has failed, and that its client may repeat. */
  remember(key: string, count: number, tries: EarlierTries, nowMs: number): void {
    const equal = (this.ended.get(key) ?? []).filter(({ untilMs }) => untilMs > nowMs);
    if (equal.length >= MAX_EQUAL) equal.shift();
    equal.push({ ...tries, count, untilMs: nowMs + KEPT_MS });
    this.ended.delete(key);
    this.ended.set(key, equal);
    for (const [oldest, [first]] of this.ended) {
      if (this.ended.size <= MAX_REQUESTS && first!.untilMs > nowMs) break;
      this.ended.delete(oldest);
    }
  }

  /**
   * Returns what the earlier tries of a client's retry have used. For a request that is not remembered, it counts each
   * try as one attempt.
   *
   * @param count the client's count, 1 for its first retry
   */
  take(key: string, count: number, nowMs: number): EarlierTries {
    const equal = this.ended.get(key) ?? [];
    const at = equal.findIndex((one) => one.count === count - 1 && one.untilMs > nowMs);
    if (at < 0) return { attempts: count, upstreams: NO_EARLIER_TRIES.upstreams };
    const [found] = equal.splice(at, 1);
    if (equal.length === 0) this.ended.delete(key);
    return found!;
  }
}

/** Returns the key that a retry shares with the request that it repeats. */
export function retryKey({ method, path, headers, body, caller }: RepeatedRequest): string {
  // Each answer may set new cookies.
  const secrets = secretsOf(headers).filter((secret) => !secret.startsWith('cookie'));
  const { bytes } = body;
  const hash = createHash('sha256').update(JSON.stringify([method, path, bytes, caller, ...secrets]));
  for (const view of viewsOf(body, 0, HASHED_BYTES)) hash.update(view);
  for (const view of viewsOf(body, Math.max(HASHED_BYTES, bytes - HASHED_BYTES), bytes)) hash.update(view);
  return hash.digest('base64');
}

interface RepeatedRequest {
  readonly method: string;
  /** With the base that it came under, which may name the model. */
  readonly path: string;
  readonly headers: HttpHeaders;
  readonly body: Body;
  /** The caller of the service; '' beside an agent. */
  readonly caller: string;
}
