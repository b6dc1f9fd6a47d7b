/**
 * The recent failed calls, each with its attempts, for the dashboard. A call that succeeded only after a retry is among
 * them. A record names endpoints, outcomes and the task's id, never content: no message, no header value.
 *
 * A call that succeeds at its first attempt costs one comparison. The ring is bounded, and so is the cost of many
 * failures: beyond a number a second, they are only counted.
 */
import { Status, type StatusCode, statusName } from '../grpc/status.ts';
import type { CallObserver, ObservedAttempt, ObservedCall } from '../proxy/observed-call.ts';

export interface AttemptRecord {
  readonly number: number;
  readonly endpoint: string;
  /** `success`, `failure` or `neutral`; `policy/verdict.ts` gives the reason. */
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
  /** The time of its end: ISO 8601, UTC. */
  readonly at: string;
  readonly listener: string;
  readonly method: string;
  /** The id of the task that the call carried; '' when it carried none. The caller chose it. */
  readonly task_id: string;
  /** '' when the call had no route. */
  readonly cluster: string;
  readonly status: string;
  /** `outrigger-reason` of an answer that the sidecar wrote; '' when an endpoint answered. */
  readonly reason: string;
  readonly elapsed_ms: number;
  readonly attempts: number;
  /** The call failed as a consequence of other failures: an open circuit refused it, or no endpoint was left to try. */
  readonly consequence: boolean;
  /** In order of their numbers; only the first ones of a call with very many. */
  readonly way: readonly AttemptRecord[];
}

const CAPACITY = 50;
const MAX_RECORDS_PER_SECOND = 20;
/**
 * Consequences have their own places: an open circuit makes hundreds a second, and must not displace the failures that
 * opened it.
 */
const CONSEQUENCES = 10;
const MAX_CONSEQUENCES_PER_SECOND = 1;
/** Callers choose the path; longer paths are cut. */
const MAX_METHOD_CHARS = 200;
const MAX_TASK_ID_CHARS = 128;
const MAX_ATTEMPTS = 10;
/** Ends of attempts that are no failure: the caller cancelled, or another attempt was faster. */
const HARMLESS: ReadonlySet<string> = new Set(['cancelled', 'superseded', 'undecided']);

/** The newest records of one kind, bounded in number and in records per second. */
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

  /** Whether this second's records are used up. */
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
  /** Failed calls that are not in the ring, because too many came at once. */
  skipped = 0;
  private readonly now: () => number;
  private readonly causes = new RecordRing(CAPACITY, MAX_RECORDS_PER_SECOND);
  private readonly consequences = new RecordRing(CONSEQUENCES, MAX_CONSEQUENCES_PER_SECOND);
  /** The ended attempts of unfinished calls, if there were several or one failed. */
  private readonly ways = new WeakMap<ObservedCall, AttemptRecord[]>();
  private lastId = 0;

  /** @param now wall time in milliseconds since 1970 */
  constructor(now: () => number) {
    this.now = now;
  }

  /** Runs at the end of each attempt, before the end of the call. Attempts of one call may run side by side. */
  onAttemptEnd(call: ObservedCall, attempt: ObservedAttempt): void {
    if (call.attempts === 1 && attempt.verdict.outcome === 'success') return;
    // A call that will not be shown needs no record of its attempts.
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

  /** The ended attempts of a running call, if one failed. */
  wayOf(call: ObservedCall): readonly AttemptRecord[] {
    return this.ways.get(call) ?? [];
  }

  /** The records after the one with this id, oldest first. */
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
      task_id: (call.task?.taskId ?? '').slice(0, MAX_TASK_ID_CHARS),
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

/** Whether a status shows that something of this system failed. A call without a status counts as none. */
const WORTH_SHOWING: Readonly<Record<number, boolean>> = {
  [Status.OK]: false,
  [Status.CANCELLED]: false,
  [Status.UNKNOWN]: true,
  [Status.INVALID_ARGUMENT]: false,
  [Status.DEADLINE_EXCEEDED]: true,
  [Status.NOT_FOUND]: false,
  [Status.ALREADY_EXISTS]: false,
  [Status.PERMISSION_DENIED]: false,
  [Status.RESOURCE_EXHAUSTED]: true,
  [Status.FAILED_PRECONDITION]: false,
  [Status.ABORTED]: false,
  [Status.OUT_OF_RANGE]: false,
  [Status.UNIMPLEMENTED]: false,
  [Status.INTERNAL]: true,
  [Status.UNAVAILABLE]: true,
  [Status.DATA_LOSS]: true,
  [Status.UNAUTHENTICATED]: false,
} satisfies Record<StatusCode, boolean>;

/**
 * An error of the caller, or its cancellation, is no failure of this system: NOT_FOUND and similar codes are answers.
 * Of the successful calls we show those that a retry saved; a faster hedge saved nothing.
 */
function isWorthShowing(
  { status, reason, attempt }: ObservedCall,
  way: readonly AttemptRecord[] = [],
): boolean {
  if (reason !== undefined || attempt?.verdict.outcome === 'failure') return true;
  if (way.some(({ outcome, verdict }) => outcome !== 'success' && !HARMLESS.has(verdict))) return true;
  return WORTH_SHOWING[status] === true;
}

/** The call failed because of earlier failures of other calls: a circuit was open, or no endpoint was left. */
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

/** The query, which plain HTTP requests may carry, is content and is left out. */
function methodOf(path: string): string {
  const query = path.indexOf('?');
  return path.slice(path.startsWith('/') ? 1 : 0, query < 0 ? undefined : query).slice(0, MAX_METHOD_CHARS);
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
