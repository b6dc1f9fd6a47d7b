/** The state that outlier detection keeps of an endpoint and of an attempt. `detector.ts` changes it. */
import type { Arrows } from '../../errors/illegal-step.ts';
import type { LatencyTrack } from './latency.ts';
import { OutcomeWindow } from './rates.ts';

export type EjectionReason =
  | 'consecutive_failures'
  | 'failure_percentage'
  | 'success_rate'
  | 'latency'
  | 'health_check';

export type EndpointState = 'in_service' | 'ejected' | 'probation';

/** The arrows of the drawing in `detector.ts`. */
export const ENDPOINT_ARROWS: Arrows<EndpointState> = {
  in_service: ['ejected'],
  ejected: ['probation'],
  probation: ['in_service', 'ejected'],
};

/** On probation: answers after which any number of calls may wait, and successes that end the probation. */
export const PROBATION_SUCCESSES = 3;

/** An endpoint as outlier detection sees it. Only the detector writes it. */
export class WatchedEndpoint {
  readonly address: string;
  state: EndpointState = 'in_service';
  /** Why it was ejected last; `detail` is the text for logs and pages. */
  reason: EjectionReason | undefined = undefined;
  detail = '';
  ejections = 0;
  ejectedAtMs = Number.NEGATIVE_INFINITY;
  /** Infinity while an active health check keeps it ejected. */
  ejectedUntilMs = Number.NEGATIVE_INFINITY;
  /** The factor of the base ejection time; shrinks by one with each healthy interval. */
  multiplier = 0;
  /** Since when it is in service and off probation. */
  healthySinceMs = Number.POSITIVE_INFINITY;
  /** Counts changes of state: an attempt begun before the last change proves nothing about the present state. */
  epoch = 0;
  removed = false;

  consecutive = 0;
  /** Numbers the runs of consecutive failures. */
  run = 0;
  runSinceMs = Number.NEGATIVE_INFINITY;
  /** The latest start of an attempt that succeeded. */
  lastSuccessBegunAtMs = Number.NEGATIVE_INFINITY;
  lastFailureAtMs = Number.NEGATIVE_INFINITY;
  /** The latest conclusive failure found the endpoint unreachable; of an ejected endpoint, the cause of the ejection. */
  unreachable = false;
  /** The latest failure was a silence: it is not known yet whether the endpoint was present. */
  silent = false;
  /** Attempts that were answered during this run of failures, and may still succeed. */
  promising = 0;
  readonly outcomes = new OutcomeWindow();
  readonly latency: (LatencyTrack | undefined)[] = [];
  oldestWaiting: WatchedAttempt | undefined = undefined;
  newestWaiting: WatchedAttempt | undefined = undefined;

  returnedAtMs = Number.NEGATIVE_INFINITY;
  /** On probation: attempts that wait for their answer, answers, and successes. */
  probing = 0;
  answers = 0;
  successes = 0;

  cooling = false;
  coolUntilMs = Number.NEGATIVE_INFINITY;
  /** The number of RESOURCE_EXHAUSTED in a row without a pushback. */
  throttled = 0;
  healthCheckFails = false;
  /** A health check has failed since it was ejected: a passing one means that something has changed. */
  healthCheckFailedSince = false;

  /**
   * Whether the balancer may pick it: in service, or on probation with room for a probe, and not cooling down.
   * The detector calls `onAdmitsChange` after each change.
   */
  admits = true;
  onAdmitsChange: (() => void) | undefined = undefined;

  constructor(address: string) {
    this.address = address;
  }

  get ejected(): boolean {
    return this.state === 'ejected';
  }

  /** The calls that may wait for an answer on probation: 1, then 2, then 4, then any number. */
  get probeLimit(): number {
    return this.answers < PROBATION_SUCCESSES ? 2 ** this.answers : Number.POSITIVE_INFINITY;
  }
}

/** Notes whether a failed attempt reached the endpoint. */
export function noteReach(watched: WatchedEndpoint, { unreachable, silent }: WatchedAttempt): void {
  if (unreachable === undefined) return;
  watched.unreachable = unreachable;
  watched.silent = silent;
}

/** The endpoint is ejected for its latency, and the silence watch is asking whether it is present at all. */
export function noteSlow(watched: WatchedEndpoint, absent: boolean): void {
  watched.unreachable = absent;
  watched.silent = true;
}

/** The endpoint gives no sign of life: if its latest failure was a silence, it was unreachable. */
export function foundAbsent(watched: WatchedEndpoint): void {
  watched.unreachable ||= watched.silent;
}

/** Call it after a change of anything that `admits` depends on. */
export function refreshAdmits(watched: WatchedEndpoint): void {
  const { state, cooling, probing } = watched;
  const admits =
    !cooling && (state === 'in_service' || (state === 'probation' && probing < watched.probeLimit));
  if (admits === watched.admits) return;
  watched.admits = admits;
  watched.onAdmitsChange?.();
}

/** The part of an attempt that outlier detection needs. Attempts extend it, so that recording allocates nothing. */
export class WatchedAttempt {
  readonly watched: WatchedEndpoint;
  begunAtMs = 0;
  /** When the wait for the first message began: the request was complete. */
  waitingSinceMs = 0;
  answered = false;
  /** Whether it failed because the endpoint was unreachable; undefined when that is not known. */
  unreachable: boolean | undefined = undefined;
  /** It failed without an answer, and `silence-watch.ts` is asking whether the endpoint is present. */
  silent = false;
  /** The endpoint's epoch when the attempt began. */
  epoch = -1;
  probe = false;
  /** The run of failures during which its answer arrived; 0 outside of one. */
  promisedInRun = 0;
  slot = -1;
  /** Undefined when its latency does not count. */
  track: LatencyTrack | undefined = undefined;
  /** The evidence that its wait has added so far. */
  credited = 0;
  waiting = false;
  older: WatchedAttempt | undefined = undefined;
  younger: WatchedAttempt | undefined = undefined;

  constructor(watched: WatchedEndpoint) {
    this.watched = watched;
  }
}

export function startWaiting(attempt: WatchedAttempt): void {
  const { watched } = attempt;
  const last = watched.newestWaiting;
  attempt.waiting = true;
  attempt.older = last;
  if (last === undefined) watched.oldestWaiting = attempt;
  else last.younger = attempt;
  watched.newestWaiting = attempt;
}

export function stopWaiting(attempt: WatchedAttempt): void {
  if (!attempt.waiting) return;
  const { watched, older, younger } = attempt;
  attempt.waiting = false;
  if (older === undefined) watched.oldestWaiting = younger;
  else older.younger = younger;
  if (younger === undefined) watched.newestWaiting = older;
  else younger.older = older;
  // An ended attempt must not keep the collector from freeing its neighbours.
  attempt.older = undefined;
  attempt.younger = undefined;
}

/** One endpoint's line in `/clusters`. */
export interface EndpointReport {
  readonly state: EndpointState | 'cooling_down';
  /** Why it is not in service, as text; empty when it is. */
  readonly because: string;
  /** The time until an ejection or a cooldown ends; 0 without one, Infinity when a health check ends it. */
  readonly leftMs: number;
  readonly reason: EjectionReason | undefined;
  /** Since discovery named it. */
  readonly ejections: number;
  readonly consecutiveFailures: number;
  /** Among the latest calls, at most 128. */
  readonly calls: number;
  readonly failures: number;
}

export function reportOf(watched: WatchedEndpoint, nowMs: number): EndpointReport {
  const { state, reason, ejections, consecutive: consecutiveFailures, outcomes } = watched;
  const { calls, failures } = outcomes;
  const rest = { reason, ejections, consecutiveFailures, calls, failures };
  if (state === 'ejected')
    return { state, because: watched.detail, leftMs: left(watched.ejectedUntilMs, nowMs), ...rest };
  if (watched.cooling) {
    const because = 'answered RESOURCE_EXHAUSTED';
    return { state: 'cooling_down', because, leftMs: left(watched.coolUntilMs, nowMs), ...rest };
  }
  if (state === 'probation') return { state, because: `was ejected: ${watched.detail}`, leftMs: 0, ...rest };
  return { state, because: '', leftMs: 0, ...rest };
}

function left(untilMs: number, nowMs: number): number {
  return Math.max(untilMs - nowMs, 0);
}
