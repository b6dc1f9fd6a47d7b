/**
 * The calls that went wrong lately, each with its way through the attempts: what the dashboard shows. A call that a
 * retry has saved is among them. Who was asked and what came of it, never what was said: no message, no header value.
 *
 * A call that is well at its first attempt costs one comparison. The ring is bounded, and so is what a flood of
 * failures may cost: beyond a number a second they are only counted.
 */
import { Status, type StatusCode, statusName } from '../grpc/status.ts';
import type { CallObserver, ObservedAttempt, ObservedCall } from '../proxy/observed-call.ts';

export interface AttemptRecord {
  readonly number: number;
  readonly endpoint: string;
  /** `success`, `failure` or `neutral`, and why: `policy/verdict.ts`. */
  readonly outcome: string;
  readonly verdict: string;
  readonly status: string;
  readonly peer_reason: string;
  /** Since the call began, in milliseconds. */
  readonly after_ms: number;
  readonly elapsed_ms: number;
}

export interface CallRecord {
  /** Counts from 1. */
  readonly id: number;
  /** When it ended: ISO 8601, UTC. */
  readonly at: string;
  readonly listener: string;
  readonly method: string;
  /** '' when the call had no route. */
  readonly cluster: string;
  readonly status: string;
  /** `outrigger-reason` of an answer of the sidecar's own; '' when the answer was an endpoint's. */
  readonly reason: string;
  readonly elapsed_ms: number;
  readonly attempts: number;
  /** It suffers from what others of the list have found: an open circuit turned it away, or no endpoint was left to try. */
  readonly consequence: boolean;
  /** By number; the first ones of a call with very many. */
  readonly way: readonly AttemptRecord[];
}

const CAPACITY = 50;
const MAX_RECORDS_PER_SECOND = 20;
/** Consequences have places of their own: an open circuit makes hundreds a second, and the failures that opened it stay. */
const CONSEQUENCES = 10;
const MAX_CONSEQUENCES_PER_SECOND = 1;
/** Callers choose the path: what is longer is cut. */
const MAX_METHOD_CHARS = 200;
const MAX_ATTEMPTS = 10;
/** Ends of attempts that are nobody's failure: the caller left, or another attempt was quicker. */
const HARMLESS: ReadonlySet<string> = new Set(['cancelled', 'superseded', 'undecided']);

/** The newest records of a kind, so many a second at most. */
class RecordRing {
  readonly records: CallRecord[] = [];
  private readonly capacity: number;
  private readonly perSecond: number;
  private second = 0;
  private thisSecond = 0;

  constructor(capacity: number, perSecond: number) {
    this.capacity = capacity;
    this.perSecond = perSecond;
  }

  /** This second has had its records. */
  isFull(nowMs: number): boolean {
    const second = Math.floor(nowMs / 1000);
    if (second !== this.second) {
      this.second = second;
      this.thisSecond = 0;
    }
    return this.thisSecond >= this.perSecond;
  }

  add(record: CallRecord): void {
    this.thisSecond++;
    if (this.records.push(record) > this.capacity) this.records.shift();
  }
}

export class FailedCalls implements CallObserver {
  /** Calls that went wrong and are not in the ring, because too many came at once. */
  skipped = 0;
  private readonly now: () => number;
  private readonly causes = new RecordRing(CAPACITY, MAX_RECORDS_PER_SECOND);
  private readonly consequences = new RecordRing(CONSEQUENCES, MAX_CONSEQUENCES_PER_SECOND);
  /** Of calls that are not over: attempts that ended, where there was more than one or it did not end well. */
  private readonly ways = new WeakMap<ObservedCall, AttemptRecord[]>();
  private lastId = 0;

  /** @param now wall time in milliseconds since 1970 */
  constructor(now: () => number) {
    this.now = now;
  }

  /** Told of each attempt's end, before the call's: attempts of one call may run side by side. */
  onAttemptEnd(call: ObservedCall, attempt: ObservedAttempt): void {
    if (call.attempts === 1 && attempt.verdict.outcome === 'success') return;
    // A call that is not going to be shown needs no way.
    if (this.causes.isFull(this.now())) return;
    const way = this.ways.get(call);
    if (way === undefined) this.ways.set(call, [attemptRecord(call, attempt)]);
    else if (way.length < MAX_ATTEMPTS) way.push(attemptRecord(call, attempt));
  }

  onCallEnd(call: ObservedCall): void {
    if (call.attempts === 1 && call.status === Status.OK && call.attempt?.verdict.outcome !== 'failure')
      return;
    const way = this.ways.get(call);
    if (!isWorthShowing(call, way)) return;
    const consequence = isConsequence(call);
    const ring = consequence ? this.consequences : this.causes;
    if (ring.isFull(this.now())) this.skipped++;
    else ring.add(this.recordOf(call, way, consequence));
  }

  /** Those after the one with the given id, oldest first. */
  recent(afterId = 0): readonly CallRecord[] {
    return [...this.causes.records, ...this.consequences.records]
      .filter(({ id }) => id > afterId)
      .sort((one, other) => one.id - other.id);
  }

  private recordOf(call: ObservedCall, way: AttemptRecord[] | undefined, consequence: boolean): CallRecord {
    return {
      id: ++this.lastId,
      at: new Date(this.now()).toISOString(),
      listener: call.context.listener,
      method: methodOf(call.head.path),
      cluster: call.cluster?.name ?? '',
      status: nameOf(call.status),
      reason: call.reason ?? '',
      elapsed_ms: tenths((call.callerGoneAtMs || call.context.clock()) - call.startedAtMs),
      attempts: call.attempts,
      consequence,
      way: way?.sort((one, other) => one.number - other.number) ?? wayOfOne(call),
    };
  }
}

/**
 * What a caller got wrong, or left, is no failure of this system: NOT_FOUND and its like are answers. Of calls that
 * ended well those are shown that a retry has saved; a hedge that was quicker has saved nothing.
 */
function isWorthShowing(
  { status, reason, attempt }: ObservedCall,
  way: readonly AttemptRecord[] = [],
): boolean {
  if (reason !== undefined || attempt?.verdict.outcome === 'failure') return true;
  if (way.some(({ outcome, verdict }) => outcome !== 'success' && !HARMLESS.has(verdict))) return true;
  switch (status) {
    case Status.UNKNOWN:
    case Status.DEADLINE_EXCEEDED:
    case Status.RESOURCE_EXHAUSTED:
    case Status.INTERNAL:
    case Status.UNAVAILABLE:
    case Status.DATA_LOSS:
      return true;
    default:
      return false;
  }
}

/** Nobody was asked, for what others have found. */
function isConsequence({ reason, attempt }: ObservedCall): boolean {
  return reason === 'circuit_open' || reason === 'no_endpoint' || attempt?.verdict.reason === 'circuit_open';
}

function wayOfOne(call: ObservedCall): AttemptRecord[] {
  return call.attempt === undefined ? [] : [attemptRecord(call, call.attempt)];
}

function attemptRecord(call: ObservedCall, attempt: ObservedAttempt): AttemptRecord {
  return {
    number: attempt.number,
    endpoint: attempt.endpoint.address,
    outcome: attempt.verdict.outcome,
    verdict: attempt.verdict.reason,
    status: statusName(attempt.status),
    peer_reason: attempt.peerReason,
    after_ms: tenths(attempt.startedAtMs - call.startedAtMs),
    elapsed_ms: tenths(attempt.elapsedMs),
  };
}

function nameOf(status: StatusCode | -1): string {
  return status === -1 ? '' : statusName(status);
}

/** A query, which plain HTTP requests may carry, is content. */
function methodOf(path: string): string {
  const query = path.indexOf('?');
  return path.slice(path.startsWith('/') ? 1 : 0, query < 0 ? undefined : query).slice(0, MAX_METHOD_CHARS);
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
