/** What outlier detection keeps of an endpoint and of an attempt. `outlier-detector.ts` moves it. */
import type { LatencyTrack } from './latency.ts';
import { OutcomeWindow } from './rates.ts';

export type EjectionReason =
  | 'consecutive_failures'
  | 'failure_percentage'
  | 'success_rate'
  | 'latency'
  | 'health_check';

export type EndpointState = 'in_service' | 'ejected' | 'probation';

/** Answers that open an endpoint on probation to any number of calls, and good ends that let it off. */
export const PROBATION_SUCCESSES = 3;

/** An endpoint as outlier detection sees it. Others read; only the detector writes. */
export class WatchedEndpoint {
  readonly address: string;
  state: EndpointState = 'in_service';
  /** Why it was ejected last, for a person. */
  reason: EjectionReason | undefined = undefined;
  detail = '';
  ejections = 0;
  ejectedAtMs = Number.NEGATIVE_INFINITY;
  /** Infinity while an active health check keeps it out. */
  ejectedUntilMs = Number.NEGATIVE_INFINITY;
  /** How often the base ejection time is due; shrinks by one with each healthy interval. */
  multiplier = 0;
  /** Since when it is in service without reserve. */
  healthySinceMs = Number.POSITIVE_INFINITY;
  /** Counts changes of state: an attempt that was begun before the last one proves nothing about now. */
  epoch = 0;
  removed = false;

  consecutive = 0;
  /** Numbers the runs of consecutive failures. */
  run = 0;
  runSinceMs = Number.NEGATIVE_INFINITY;
  /** When the attempt was begun that was the latest of those that ended well. */
  lastSuccessBegunAtMs = Number.NEGATIVE_INFINITY;
  lastFailureAtMs = Number.NEGATIVE_INFINITY;
  /** The latest failure that says so found nobody there; of an ejected endpoint: which is why it is out. */
  unreachable = false;
  /** The latest failure was a silence: nobody knows yet whether somebody was there. */
  silent = false;
  /** Attempts that were answered during this run of failures, and may end well. */
  promising = 0;
  readonly outcomes = new OutcomeWindow();
  readonly latency: (LatencyTrack | undefined)[] = [];
  oldestWaiting: WatchedAttempt | undefined = undefined;
  newestWaiting: WatchedAttempt | undefined = undefined;

  returnedAtMs = Number.NEGATIVE_INFINITY;
  /** On probation: attempts that wait for their answer, answers, and attempts that ended well. */
  probing = 0;
  answers = 0;
  successes = 0;

  cooling = false;
  coolUntilMs = Number.NEGATIVE_INFINITY;
  /** RESOURCE_EXHAUSTED in a row without a pushback. */
  throttled = 0;
  healthCheckFails = false;
  /** A health check has failed since it was ejected: a passing one means that something has changed. */
  healthCheckFailedSince = false;

  /**
   * Whether the balancer may pick it: in service, or on probation with room for a probe, and not cooling down.
   * `onAdmitsChange` is called after each change.
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

/** Notes whether a failed attempt found somebody there. */
export function noteReach(watched: WatchedEndpoint, { unreachable, silent }: WatchedAttempt): void {
  if (unreachable === undefined) return;
  watched.unreachable = unreachable;
  watched.silent = silent;
}

/** It is ejected for its latency, and whether it is there at all is being asked. */
export function noteSlow(watched: WatchedEndpoint, absent: boolean): void {
  watched.unreachable = absent;
  watched.silent = true;
}

/** It gives no sign of life: if it was silent at last, nobody was there. */
export function foundAbsent(watched: WatchedEndpoint): void {
  watched.unreachable ||= watched.silent;
}

/** To be called after whatever `admits` depends on has changed. */
export function refreshAdmits(watched: WatchedEndpoint): void {
  const { state, cooling, probing } = watched;
  const admits =
    !cooling && (state === 'in_service' || (state === 'probation' && probing < watched.probeLimit));
  if (admits === watched.admits) return;
  watched.admits = admits;
  watched.onAdmitsChange?.();
}

/** The part of an attempt that outlier detection needs; attempts extend it, so that recording allocates nothing. */
export class WatchedAttempt {
  readonly watched: WatchedEndpoint;
  begunAtMs = 0;
  /** When the wait for the first message began: the request was complete. */
  waitingSinceMs = 0;
  answered = false;
  /** It failed because nobody was there, or although somebody was; undefined when it may be either. */
  unreachable: boolean | undefined = undefined;
  /** It failed because nothing came, and whether somebody was there is being asked (`silence-watch.ts`). */
  silent = false;
  /** The endpoint's when the attempt was begun. */
  epoch = -1;
  probe = false;
  /** The run of failures in which its answer came; 0 outside of one. */
  promisedInRun = 0;
  slot = -1;
  /** Undefined when its latency is not looked at. */
  track: LatencyTrack | undefined = undefined;
  /** What its wait has proved so far. */
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
  // An attempt that has ended must not keep its neighbours from being collected.
  attempt.older = undefined;
  attempt.younger = undefined;
}

/** One endpoint's line in `/clusters`. */
export interface EndpointReport {
  readonly state: EndpointState | 'cooling_down';
  /** Why it is not in service, for a person; empty when it is. */
  readonly because: string;
  /** Until an ejection or a cooldown ends; 0 when none does, Infinity when a health check ends it. */
  readonly leftMs: number;
  readonly reason: EjectionReason | undefined;
  /** Since it is known. */
  readonly ejections: number;
  readonly consecutiveFailures: number;
  /** Of the latest calls, 128 at most. */
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
