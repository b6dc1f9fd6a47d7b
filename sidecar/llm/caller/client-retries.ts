/**
 * Remembers what a client's failed requests have used, so that the client's own retry goes on where they ended: it
 * has what is left of their attempts, and goes first to an upstream that they have not tried.
 *
 * A retry carries no id of the request it repeats; it is recognised by its bytes, its path and its credentials, and by
 * its count, which is one above.
 */
import { createHash } from 'node:crypto';
import { type Body, viewsOf } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { secretsOf } from '../shared/provider-credentials.ts';

/** Of all tries of one request so far. */
export interface EarlierTries {
  /** Requests sent to providers. */
  readonly attempts: number;
  /** Names of the upstreams that were asked. */
  readonly upstreams: ReadonlySet<string>;
}

export const NO_EARLIER_TRIES: EarlierTries = { attempts: 0, upstreams: new Set() };

interface Remembered extends EarlierTries {
  /** The client's count of the request that ended. */
  readonly count: number;
  readonly untilMs: number;
}

/** Clients come again within seconds, or after a `Retry-After` that they follow for at most two minutes. */
const KEPT_MS = 180_000;
const MAX_REQUESTS = 1_000;
/** Of equal requests that failed at about the same time. */
const MAX_EQUAL = 32;
/** Of each end of a body: enough to tell requests apart, and no more work for a large one. */
const HASHED_BYTES = 65_536;

export class ClientRetries {
  /** By what makes two requests the same, in the order of their ends. */
  private readonly ended = new Map<string, Remembered[]>();

  get size(): number {
    return this.ended.size;
  }

  /** A request has failed, and its client may come again. */
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
   * What the earlier tries of a client's retry have used. Of a request that is not remembered each try is taken for
   * one attempt.
   *
   * @param count the client's, 1 for its first retry
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

/** The key that a retry shares with the request it repeats. */
export function retryKey({ method, path, headers, body }: RepeatedRequest): string {
  // Cookies may be new with each answer.
  const secrets = secretsOf(headers).filter((secret) => !secret.startsWith('cookie'));
  const { bytes } = body;
  const hash = createHash('sha256').update(JSON.stringify([method, path, bytes, ...secrets]));
  for (const view of viewsOf(body, 0, HASHED_BYTES)) hash.update(view);
  for (const view of viewsOf(body, Math.max(HASHED_BYTES, bytes - HASHED_BYTES), bytes)) hash.update(view);
  return hash.digest('base64');
}

interface RepeatedRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: HttpHeaders;
  readonly body: Body;
}
