/**
 * The calls that went wrong lately, each with its way through the attempts: what the dashboard shows. A call that a
 * retry has saved is among them. Who was asked and what came of it, never what was said: no message, no header value.
 *
 * A call that is well at its first attempt costs one comparison. The ring is bounded, and so is what a flood of
 * failures may cost: beyond a number a second they are only counted.
 */
import { Status, type StatusCode, statusName } from '../grpc/status.ts';

/** What the ring asks of an attempt; `Attempt` of proxy/ is one. */
export interface EndedAttempt {
  readonly number: number;
  readonly endpoint: { readonly address: string };
  readonly startedAtMs: number;
  readonly elapsedMs: number;
  readonly status: StatusCode;
  readonly verdict: { readonly outcome: string; readonly reason: string };
  /** Why the peer's sidecar answered in its app's place; '' when it did not. */
  readonly peerReason: string;
  /** The one before it. */
  readonly previous?: EndedAttempt | undefined;
}

/** What the ring asks of a call that has ended; `Call` of proxy/ is one. */
export interface EndedCall {
  readonly context: { readonly listener: string; readonly clock: () => number };
  readonly head: { readonly path: string };
  readonly startedAtMs: number;
  readonly status: StatusCode | -1;
  /** Why the sidecar answered itself. */
  readonly reason: string | undefined;
  readonly attempts: number;
  readonly attempt: EndedAttempt | undefined;
  readonly cluster: { readonly name: string } | undefined;
}

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
  /** Oldest first; the latest ones of a call with very many. */
  readonly way: readonly AttemptRecord[];
}

const CAPACITY = 50;
const MAX_RECORDS_PER_SECOND = 20;
/** Callers choose the path: what is longer is cut. */
const MAX_METHOD_CHARS = 200;
const MAX_ATTEMPTS = 10;

export class FailedCalls {
  /** Calls that went wrong and are not in the ring, because too many came at once. */
  skipped = 0;
  private readonly now: () => number;
  private readonly ring: CallRecord[] = [];
  private lastId = 0;
  private second = 0;
  private recordsThisSecond = 0;

  /** @param now wall time in milliseconds since 1970 */
  constructor(now: () => number) {
    this.now = now;
  }

  onCallEnd(call: EndedCall): void {
    if (call.attempts === 1 && call.status === Status.OK && call.attempt?.verdict.outcome !== 'failure')
      return;
    if (!isWorthShowing(call)) return;
    const nowMs = this.now();
    const second = Math.floor(nowMs / 1000);
    if (second !== this.second) {
      this.second = second;
      this.recordsThisSecond = 0;
    }
    if (++this.recordsThisSecond > MAX_RECORDS_PER_SECOND) {
      this.skipped++;
      return;
    }
    if (this.ring.push(this.recordOf(call, nowMs)) > CAPACITY) this.ring.shift();
  }

  /** Those after the one with the given id, oldest first. */
  recent(afterId = 0): readonly CallRecord[] {
    return this.ring.filter(({ id }) => id > afterId);
  }

  private recordOf(call: EndedCall, nowMs: number): CallRecord {
    return {
      id: ++this.lastId,
      at: new Date(nowMs).toISOString(),
      listener: call.context.listener,
      method: methodOf(call.head.path),
      cluster: call.cluster?.name ?? '',
      status: nameOf(call.status),
      reason: call.reason ?? '',
      elapsed_ms: tenths(call.context.clock() - call.startedAtMs),
      attempts: call.attempts,
      way: wayOf(call),
    };
  }
}

/**
 * What a caller got wrong, or left, is no failure of this system: NOT_FOUND and its like are answers. Calls that
 * took several attempts are shown however they ended.
 */
function isWorthShowing({ status, reason, attempts, attempt }: EndedCall): boolean {
  if (attempts > 1 || attempt?.verdict.outcome === 'failure') return true;
  if (reason !== undefined) return true;
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

function wayOf(call: EndedCall): AttemptRecord[] {
  const way: AttemptRecord[] = [];
  for (let attempt = call.attempt; attempt !== undefined; attempt = attempt.previous) {
    if (way.length === MAX_ATTEMPTS) break;
    way.push({
      number: attempt.number,
      endpoint: attempt.endpoint.address,
      outcome: attempt.verdict.outcome,
      verdict: attempt.verdict.reason,
      status: statusName(attempt.status),
      peer_reason: attempt.peerReason,
      after_ms: tenths(attempt.startedAtMs - call.startedAtMs),
      elapsed_ms: tenths(attempt.elapsedMs),
    });
  }
  return way.reverse();
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
