/**
 * Joins equal requests in single flight: requests that run at the same time, and have the same idempotency key, are one
 * request to the provider. A caller that joins late receives first what the others have received so far.
 *
 *     first caller ──▶ flight ──▶ provider
 *     same key     ──▶   │  (joins; both callers receive the answer)
 *                        └── the last caller leaves ──▶ the exchange is cancelled
 */
import { createHash, type Hash } from 'node:crypto';
import { type Arrows, step } from '../errors/illegal-step.ts';
import { CHUNK_COST_BYTES, HeldBytes } from './answer/held-answers.ts';
import type { Reply } from './caller/reply.ts';
import type { Sink } from './caller/sink.ts';
import type { ModelRequest } from './request/model-request.ts';
import { type HttpHeaders, textOf } from './shared/headers.ts';
import { secretsOf } from './shared/provider-credentials.ts';
import { ignore, shortLived } from './shared/short-lived.ts';

/** How much of an answer a flight keeps for callers that join late; no caller can join a longer answer. */
const MAX_KEPT_BYTES = 1_048_576;
/** One of several callers that leaves more than this unread loses the answer, so that the others don't wait for it. */
const MAX_UNREAD_BYTES = 4_194_304;
/** A longer idempotency key counts as none. */
const MAX_KEY_LENGTH = 512;

/** Returns the hash of the body of a request that others may join; undefined for a request that must run alone. */
export function flightDigest(
  method: string | undefined,
  headers: HttpHeaders,
  always: boolean,
): Hash | undefined {
  return method === 'POST' && (always || idempotencyKey(headers) !== '') ? createHash('sha256') : undefined;
}

/** Returns the identity of a request; undefined when it must run alone. Requests for calls of two callers differ. */
export function flightKey({
  method,
  asked,
  path,
  headers,
  bodyDigest,
  client,
  ownerCall,
}: FlightRequest): string | undefined {
  if (bodyDigest === undefined || (ownerCall !== undefined && ownerCall.callerScope === undefined))
    return undefined;
  const caller = ownerCall?.callerScope ?? '';
  // The base may name the model.
  const parts = [
    method,
    asked.base,
    path,
    idempotencyKey(headers),
    bodyDigest,
    client?.name ?? '',
    caller,
    ...secretsOf(headers),
  ];
  return createHash('sha256').update(JSON.stringify(parts)).digest('base64');
}

type FlightRequest = Pick<
  ModelRequest,
  'method' | 'asked' | 'path' | 'headers' | 'bodyDigest' | 'client' | 'ownerCall'
>;

/** Returns the request's key; '' without a valid one. */
function idempotencyKey(headers: HttpHeaders): string {
  const key = textOf(headers['idempotency-key']);
  return key === undefined || key.length > MAX_KEY_LENGTH ? '' : key;
}

/**
 *     joinable ──too long to be kept──▶ unjoinable ──▶ over
 *        └───────────────────────────────────────────▲
 *                      the answer ends, breaks off, or the last caller leaves
 */
export type FlightState = 'joinable' | 'unjoinable' | 'over';

export const FLIGHT_ARROWS: Arrows<FlightState> = {
  joinable: ['unjoinable', 'over'],
  unjoinable: ['over'],
  over: [],
};

/** Gives the answer of one request to every caller that has asked for it. */
export class Flight implements Sink {
  onDrain: () => void = ignore;
  /** The last caller has left. */
  onEmpty: () => void = ignore;
  private state: FlightState = 'joinable';
  private readonly members = new Set<Reply>();
  private answerHead: { status: number; headers: HttpHeaders } | undefined = undefined;
  private isHeadFlushed = false;
  /** What the callers have received so far, while others can join. */
  private kept: Buffer[] = [];
  private readonly memory = new HeldBytes();
  private keptBytes = 0;

  get size(): number {
    return this.members.size;
  }

  /** Adds a caller; returns false when the flight no longer keeps the beginning of the answer. */
  join(reply: Reply): boolean {
    if (this.state !== 'joinable') return false;
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
      this.become('over');
      this.onEmpty();
    }
    // The flight may have waited for this caller to read.
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
    if (this.state === 'joinable') this.keep(bytes);
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

  private keep(bytes: Buffer): void {
    const cost = bytes.length + CHUNK_COST_BYTES;
    this.keptBytes += cost;
    if (this.keptBytes <= MAX_KEPT_BYTES && this.memory.add(cost)) this.kept.push(bytes);
    else this.become('unjoinable');
  }

  /** Frees the kept bytes: no caller can join any more. */
  private become(state: 'unjoinable' | 'over'): void {
    if (this.state === 'over') return;
    this.state = step(FLIGHT_ARROWS, this.state, state);
    this.kept = [];
    this.memory.clear();
  }

  end(): void {
    this.become('over');
    for (const reply of this.members) reply.end();
  }

  breakOff(last: Buffer | undefined): void {
    this.become('over');
    for (const reply of this.members) reply.breakOff(last);
  }
}
