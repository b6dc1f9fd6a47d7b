/**
 * Joins equal requests in single flight: those that are under way at the same time, and say by an idempotency key that
 * they are the same, are one request to the provider. Whoever joins late gets what has been sent so far first.
 *
 *     first caller ──▶ flight ──▶ provider
 *     same key     ──▶   │  (joins; the answer goes to both)
 *                        └── the last caller leaves ──▶ the request is closed
 */
import { createHash, type Hash } from 'node:crypto';
import { CHUNK_COST_BYTES, HeldBytes } from './answer/held-answers.ts';
import type { Reply } from './caller/reply.ts';
import type { Sink } from './caller/sink.ts';
import type { ModelRequest } from './request/model-request.ts';
import { type HttpHeaders, textOf } from './shared/headers.ts';
import { secretsOf } from './shared/provider-credentials.ts';
import { ignore, shortLived } from './shared/short-lived.ts';

/** What is kept of an answer for those who join late; an answer that is longer can't be joined any more. */
const MAX_KEPT_BYTES = 1_048_576;
/** A caller among several that reads so little is given up, so that the others don't wait for it. */
const MAX_UNREAD_BYTES = 4_194_304;
/** Longer keys are no keys of anybody's. */
const MAX_KEY_LENGTH = 512;

/** Takes the body of a request that may be joined; undefined for one that is alone. */
export function flightDigest(
  method: string | undefined,
  headers: HttpHeaders,
  always: boolean,
): Hash | undefined {
  return method === 'POST' && (always || idempotencyKey(headers) !== '') ? createHash('sha256') : undefined;
}

/** The identity of a request; undefined when it must run alone. Those made for calls of two callers are two. */
export function flightKey({
  method,
  path,
  headers,
  bodyDigest,
  ownerCall,
}: FlightRequest): string | undefined {
  if (bodyDigest === undefined || (ownerCall !== undefined && ownerCall.callerScope === undefined))
    return undefined;
  const caller = ownerCall?.callerScope ?? '';
  const parts = [method, path, idempotencyKey(headers), bodyDigest, caller, ...secretsOf(headers)];
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

type FlightRequest = Pick<ModelRequest, 'method' | 'path' | 'headers' | 'bodyDigest' | 'ownerCall'>;

/** '' for none. */
function idempotencyKey(headers: HttpHeaders): string {
  const key = textOf(headers['idempotency-key']);
  return key === undefined || key.length > MAX_KEY_LENGTH ? '' : key;
}

/** The answer of one request for everybody who asked for it. */
export class Flight implements Sink {
  onDrain: () => void = ignore;
  /** Everybody has left. */
  onEmpty: () => void = ignore;
  private readonly members = new Set<Reply>();
  private answerHead: { status: number; headers: HttpHeaders } | undefined = undefined;
  private isHeadFlushed = false;
  private kept: Buffer[] | undefined = [];
  private readonly memory = new HeldBytes();
  private keptBytes = 0;

  get size(): number {
    return this.members.size;
  }

  /** False when too much of the answer has gone by. */
  join(reply: Reply): boolean {
    if (this.kept === undefined) return false;
    this.members.add(reply);
    reply.onGone = shortLived(() => this.leave(reply));
    reply.onDrain = shortLived(() => this.onDrain());
    if (this.answerHead !== undefined) reply.head(this.answerHead.status, this.answerHead.headers);
    if (this.isHeadFlushed) reply.flushHead();
    for (const bytes of this.kept) reply.write(bytes);
    return true;
  }

  private leave(reply: Reply): void {
    if (!this.members.delete(reply)) return;
    if (this.members.size === 0) {
      this.forget();
      this.onEmpty();
    }
    // The one that was waited for may have been this one.
    else this.onDrain();
  }

  head(status: number, headers: HttpHeaders): void {
    this.answerHead = { status, headers };
    for (const reply of this.members) reply.head(status, headers);
  }

  flushHead(): void {
    this.isHeadFlushed = true;
    for (const reply of this.members) reply.flushHead();
  }

  write(bytes: Buffer): boolean {
    if (this.kept !== undefined) {
      const cost = bytes.length + CHUNK_COST_BYTES;
      this.keptBytes += cost;
      if (this.keptBytes <= MAX_KEPT_BYTES && this.memory.add(cost)) this.kept.push(bytes);
      else this.forget();
    }
    let flowing = true;
    for (const reply of [...this.members]) {
      if (reply.write(bytes)) continue;
      if (this.members.size === 1) flowing = false;
      else if (reply.unreadBytes > MAX_UNREAD_BYTES) {
        this.members.delete(reply);
        reply.breakOff(undefined);
      }
    }
    return flowing;
  }

  /** Nobody can join any more. */
  private forget(): void {
    this.kept = undefined;
    this.memory.clear();
  }

  end(): void {
    this.forget();
    for (const reply of this.members) reply.end();
  }

  breakOff(last: Buffer | undefined): void {
    this.forget();
    for (const reply of this.members) reply.breakOff(last);
  }
}
