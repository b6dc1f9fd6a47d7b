/**
 * Takes endpoints that do worse than their peers out of service, and lets them back with care. Pure: time comes in,
 * in milliseconds that never go back, and what happened goes out as events.
 *
 *                  fails, or is slow                       3 attempts ended well; or 3 were answered,
 *                 ┌─────────────────┐                      and an interval went by without a failure
 *                 ▼                 │                ┌───────────────────────────────┐
 *      ┌───── ejected ──time over─▶ probation ───────┘                               ▼
 *      │          ▲                    ▲                                        in_service
 *      │          └────────────────────┼─ failures in a row, failure rate, ──────────┘
 *      │                               │  latency, health check
 *      └─ a health check that failed passes, what could not be reached can be, or fewer may be ejected now
 *
 * How long: base_ejection_time × how often it was ejected, at most max_ejection_time; that count shrinks by one with
 * each interval in service. With the default 30 s a replica that flaps is out for 30, 60, 90 … 300 s.
 *
 * How many: never more than max_ejection_percent of the endpoints, rounded down, and never the last one. With two
 * endpoints that is one, and with one none: to eject the only replica would turn all calls away, which is for the
 * circuit breaker to decide, by method and with probes. A failing endpoint that there is no room to eject is counted
 * in `overflows`, and ejected when another has returned and it still fails.
 *
 * Panic: at 50 % the rest carries at most double load, so there is no threshold at which ejections are ignored, as
 * Envoy has it. When no endpoint at all can be picked (the others are cooling down, or can't be reached), the
 * caller takes the one with the lowest {@link fallbackRank}, ejected ones last: a call that may fail is better
 * than one that surely does.
 *
 * Probation: one call may wait for its answer, then two, then four, then any number; the first failure, or an
 * answer that is surely slow, ejects again. A small weight would still send a burst to a replica that never answers.
 *
 * What is not counted: neutral ends (callers that left, throttling), answers of our own (they are no attempt's end),
 * and attempts that were begun before the endpoint's state last changed.
 *
 * Recording allocates nothing but with a method's first answer at an endpoint.
 */

import { Ejections, NO_EVENTS, type OutlierEvent } from './ejections.ts';
import { judgeFailures } from './failures.ts';
import { EVIDENCE_BOUND, EVIDENCE_CAP, LatencyTrack, MAX_METHODS } from './latency.ts';
import type { OutlierSettings } from './outlier-settings.ts';
import {
  noteReach,
  PROBATION_SUCCESSES,
  refreshAdmits,
  startWaiting,
  stopWaiting,
  type WatchedAttempt,
  WatchedEndpoint,
} from './watched-endpoint.ts';

export type { OutlierEvent } from './ejections.ts';
export {
  reportOf,
  WatchedAttempt,
  WatchedEndpoint,
} from './watched-endpoint.ts';

/** What an attempt proved: a verdict's outcome. */
export type AttemptOutcome = 'success' | 'failure' | 'neutral';

/** How often waits are looked at while attempts wait. */
const WAIT_CHECK_MS = 250;
/** Cooldown of an endpoint that is exhausted and doesn't say for how long; doubles while it stays so. */
const BASE_COOLDOWN_MS = 1_000;
const MAX_GUESSED_COOLDOWN_MS = 10_000;
/** A pushback counts up to here: an hour, said by mistake, must not take an endpoint away. */
const MAX_COOLDOWN_MS = 60_000;

/** The outlier detection of one cluster. */
export class OutlierDetector {
  readonly #ejections: Ejections;
  /** Path → index into each endpoint's `latency`. */
  readonly #methods = new Map<string, number>();

  constructor(settings: OutlierSettings) {
    this.#ejections = new Ejections(settings);
  }

  get endpoints(): readonly WatchedEndpoint[] {
    return this.#ejections.endpoints;
  }

  get ejected(): number {
    return this.#ejections.count;
  }

  /** How many may be ejected at a time. */
  get maxEjected(): number {
    return this.#ejections.max;
  }

  /** Ejections that there was no room for. */
  get overflows(): number {
    return this.#ejections.overflows;
  }

  add(address: string): WatchedEndpoint {
    const endpoint = new WatchedEndpoint(address);
    this.#ejections.endpoints = [...this.endpoints, endpoint];
    return endpoint;
  }

  /** What still runs there counts no more. With fewer endpoints fewer may be ejected, so others may return. */
  remove(endpoint: WatchedEndpoint, nowMs: number): readonly OutlierEvent[] {
    if (endpoint.removed) return NO_EVENTS;
    endpoint.removed = true;
    if (endpoint.ejected) this.#ejections.count--;
    this.#ejections.endpoints = this.endpoints.filter((other) => other !== endpoint);
    return this.#ejections.keepLimit(nowMs);
  }

  /** New settings hold from now on; ejections under way end when they were to end. */
  update(settings: OutlierSettings, nowMs: number): readonly OutlierEvent[] {
    this.#ejections.settings = settings;
    return this.#ejections.keepLimit(nowMs);
  }

  // --- Attempts --------------------------------------------------------------------------------------------

  /** An attempt begins; `end` must follow. */
  begin(attempt: WatchedAttempt, nowMs: number): void {
    const { watched } = attempt;
    attempt.begunAtMs = nowMs;
    attempt.epoch = watched.epoch;
    if (watched.state !== 'probation') return;
    attempt.probe = true;
    watched.probing++;
    refreshAdmits(watched);
  }

  /**
   * The request is complete, and now it is the endpoint's turn: its latency is measured from here. Not to be called
   * for an attempt whose caller goes on sending; that answer may be waiting for the caller.
   */
  awaitAnswer(attempt: WatchedAttempt, method: string, nowMs: number): void {
    const { watched } = attempt;
    const slot = this.#methods.get(method);
    if (slot === undefined || watched.ejected || watched.removed || this.endpoints.length < 2) return;
    const track = watched.latency[slot] ?? createTrack(watched, slot);
    if (!track.take(nowMs)) return;
    attempt.waitingSinceMs = nowMs;
    attempt.slot = slot;
    attempt.track = track;
    startWaiting(attempt);
  }

  /** The first response message is here. For unary calls `end` follows at once, for streams much later. */
  answered(attempt: WatchedAttempt, method: string, nowMs: number): OutlierEvent | undefined {
    if (attempt.answered) return undefined;
    attempt.answered = true;
    const { watched, track } = attempt;
    stopWaiting(attempt);
    const counts = this.#counts(attempt);
    this.#probeEnded(attempt, counts);
    if (!counts) return undefined;
    if (watched.consecutive > 0) {
      watched.promising++;
      attempt.promisedInRun = watched.run;
    }
    if (track === undefined) {
      // Known from its first answer on: a path that is never answered is a caller's invention.
      if (this.#methods.size < MAX_METHODS && !this.#methods.has(method))
        this.#methods.set(method, this.#methods.size);
      return undefined;
    }
    const latencyMs = nowMs - attempt.waitingSinceMs;
    track.refresh(this.endpoints, watched, attempt.slot, nowMs);
    track.add(latencyMs, attempt.waitingSinceMs);
    attempt.credited += track.credit(latencyMs, attempt.waitingSinceMs, attempt.credited);
    return this.#judgeLatency(watched, track, attempt.slot, nowMs);
  }

  /**
   * The attempt is over. A stream that was answered and is cut later is a failure like any other. An attempt that
   * was cancelled is neutral, but how long it has waited in vain counts for the latency.
   */
  end(attempt: WatchedAttempt, outcome: AttemptOutcome, nowMs: number): OutlierEvent | undefined {
    const { watched, track } = attempt;
    stopWaiting(attempt);
    const counts = this.#counts(attempt);
    this.#probeEnded(attempt, counts && outcome === 'success');
    if (!counts) return undefined;
    if (outcome === 'success') return this.#succeeded(attempt, nowMs);
    if (outcome === 'failure') {
      const event = this.#failed(attempt, nowMs);
      if (event !== undefined) return event;
    }
    if (track === undefined || attempt.answered) return undefined;
    track.refresh(this.endpoints, watched, attempt.slot, nowMs);
    const waitedMs = nowMs - attempt.waitingSinceMs;
    // A wait that was ended early says nothing of how quick the answer would have been.
    if (waitedMs <= track.limitMs) return undefined;
    track.add(waitedMs, attempt.waitingSinceMs);
    attempt.credited += track.credit(waitedMs, attempt.waitingSinceMs, attempt.credited);
    return this.#judgeLatency(watched, track, attempt.slot, nowMs);
  }

  /** Nothing that was begun before the last change of state counts, nor what is tried at an ejected endpoint. */
  #counts({ epoch, watched }: WatchedAttempt): boolean {
    return epoch === watched.epoch && !watched.ejected && !watched.removed;
  }

  #probeEnded(attempt: WatchedAttempt, well: boolean): void {
    if (!attempt.probe) return;
    attempt.probe = false;
    const { watched } = attempt;
    if (attempt.epoch !== watched.epoch) return;
    watched.probing--;
    if (well) watched.answers++;
    refreshAdmits(watched);
  }

  #succeeded(attempt: WatchedAttempt, nowMs: number): OutlierEvent | undefined {
    const { watched, begunAtMs } = attempt;
    watched.outcomes.push(false, nowMs);
    watched.lastSuccessBegunAtMs = Math.max(watched.lastSuccessBegunAtMs, begunAtMs);
    watched.consecutive = 0;
    watched.throttled = 0;
    watched.unreachable = watched.silent = false;
    if (watched.state !== 'probation') return undefined;
    watched.successes++;
    return watched.successes < PROBATION_SUCCESSES ? undefined : this.#ejections.recover(watched, nowMs);
  }

  #failed(attempt: WatchedAttempt, nowMs: number): OutlierEvent | undefined {
    const { watched } = attempt;
    watched.outcomes.push(true, nowMs);
    watched.lastFailureAtMs = nowMs;
    noteReach(watched, attempt);
    // A failure of what was begun before something that succeeded is old news, and no part of a run.
    if (attempt.begunAtMs >= watched.lastSuccessBegunAtMs) {
      if (watched.consecutive++ === 0) {
        watched.run++;
        watched.runSinceMs = attempt.begunAtMs;
        watched.promising = 0;
      }
      if (attempt.promisedInRun === watched.run) watched.promising--;
    }
    const finding = judgeFailures(watched, this.endpoints, this.#ejections.settings, nowMs);
    if (finding === undefined) return undefined;
    return this.#ejections.eject(watched, finding.reason, finding.detail, nowMs);
  }

  #judgeLatency(
    watched: WatchedEndpoint,
    track: LatencyTrack,
    slot: number,
    nowMs: number,
  ): OutlierEvent | undefined {
    if (!track.conclusive || !track.peersWereQuick(this.endpoints, watched, slot, nowMs)) return undefined;
    const median = Math.round(track.peerMedianMs);
    const detail = `first messages take over ${Math.round(track.limitMs)} ms, and ${median} ms at its peers`;
    return this.#ejections.eject(watched, 'latency', detail, nowMs);
  }

  // --- Throttling and active health checks -----------------------------------------------------------------

  /**
   * The endpoint answered RESOURCE_EXHAUSTED: it is left alone for its pushback, at most a minute; or for 1 s,
   * doubling to 10 s, when it gave none (or a negative one, which is about retries only).
   */
  coolDown(watched: WatchedEndpoint, pushbackMs: number | undefined, nowMs: number): void {
    let forMs = pushbackMs ?? -1;
    if (!(forMs >= 0)) {
      forMs = Math.min(BASE_COOLDOWN_MS * 2 ** Math.min(watched.throttled, 16), MAX_GUESSED_COOLDOWN_MS);
      watched.throttled++;
    }
    const untilMs = nowMs + Math.min(forMs, MAX_COOLDOWN_MS);
    if (!(untilMs > watched.coolUntilMs) || forMs === 0) return;
    watched.coolUntilMs = untilMs;
    watched.cooling = true;
    refreshAdmits(watched);
  }

  /**
   * An active health check came to a result (the checker has seen to repeats). A failing one ejects until it
   * passes. A passing one brings back what a check had kept out, and also what calls had ejected if a check has
   * failed since: then something has changed there. A check that passed all the while proves nothing.
   *
   * @param detail what the check found, for a person
   */
  healthChecked(
    watched: WatchedEndpoint,
    healthy: boolean,
    detail: string,
    nowMs: number,
  ): OutlierEvent | undefined {
    if (watched.removed) return undefined;
    watched.healthCheckFails = !healthy;
    if (!healthy) {
      watched.healthCheckFailedSince = true;
      return watched.ejected ? undefined : this.#ejections.eject(watched, 'health_check', detail, nowMs);
    }
    if (!watched.ejected || !watched.healthCheckFailedSince) return undefined;
    return this.#ejections.bringBack(watched, detail, nowMs);
  }

  /**
   * The endpoint can be reached again. What was ejected because it could not be comes back on probation, the first time at
   * once; what is kept out for its answers, or by its health check, does not.
   */
  reached(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    return this.#ejections.reached(watched, nowMs);
  }

  // --- Time ------------------------------------------------------------------------------------------------

  /** What time brings: returns, the latency of those who wait, health checks that there is room for now. */
  tick(nowMs: number): readonly OutlierEvent[] {
    let events: OutlierEvent[] | undefined;
    for (const endpoint of this.endpoints) {
      const event = this.#tickEndpoint(endpoint, nowMs);
      if (event === undefined) continue;
      events ??= [];
      events.push(event);
    }
    return events ?? NO_EVENTS;
  }

  #tickEndpoint(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    if (watched.cooling && watched.coolUntilMs <= nowMs) {
      watched.cooling = false;
      refreshAdmits(watched);
    }
    if (watched.ejected) {
      if (nowMs < watched.ejectedUntilMs) return undefined;
      if (!watched.healthCheckFails) return this.#ejections.bringBack(watched, 'its time is over', nowMs);
      watched.ejectedUntilMs = Number.POSITIVE_INFINITY;
      return undefined;
    }
    if (watched.healthCheckFails && this.#ejections.count < this.#ejections.max)
      return this.#ejections.eject(watched, 'health_check', 'its health check fails', nowMs);
    if (this.#probationEndsAtMs(watched) <= nowMs) return this.#ejections.recover(watched, nowMs);
    return this.#tickWaiting(watched, nowMs);
  }

  #probationEndsAtMs(watched: WatchedEndpoint): number {
    if (watched.state !== 'probation' || watched.answers < PROBATION_SUCCESSES)
      return Number.POSITIVE_INFINITY;
    return watched.returnedAtMs + this.#ejections.settings.intervalMs;
  }

  #tickWaiting(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    for (let attempt = watched.oldestWaiting; attempt !== undefined; attempt = attempt.younger) {
      if (attempt.credited >= EVIDENCE_CAP || !this.#counts(attempt)) continue;
      const track = attempt.track!;
      track.refresh(this.endpoints, watched, attempt.slot, nowMs);
      const waitedMs = nowMs - attempt.waitingSinceMs;
      if (waitedMs > track.limitMs)
        attempt.credited += track.credit(waitedMs, attempt.waitingSinceMs, attempt.credited);
    }
    for (let slot = 0; slot < watched.latency.length; slot++) {
      const track = watched.latency[slot];
      const event = track === undefined ? undefined : this.#judgeLatency(watched, track, slot, nowMs);
      if (event !== undefined) return event;
    }
    return undefined;
  }

  /** When `tick` has something to do next; Infinity when nothing can happen without a call. */
  nextAtMs(nowMs: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const endpoint of this.endpoints) {
      if (endpoint.ejected) next = Math.min(next, endpoint.ejectedUntilMs);
      else if (endpoint.oldestWaiting !== undefined) next = Math.min(next, nowMs + WAIT_CHECK_MS);
      if (endpoint.cooling) next = Math.min(next, endpoint.coolUntilMs);
      next = Math.min(next, this.#probationEndsAtMs(endpoint));
    }
    return next;
  }
}

function createTrack(watched: WatchedEndpoint, slot: number): LatencyTrack {
  const track = new LatencyTrack();
  if (watched.state === 'probation') track.reset(EVIDENCE_BOUND - EVIDENCE_CAP);
  // Slots in between must be there: a list with holes is slower to read.
  while (watched.latency.length <= slot) watched.latency.push(undefined);
  watched.latency[slot] = track;
  return track;
}

/**
 * For when no endpoint admits a call: the lower, the better. First an endpoint on probation that has its probes,
 * then the one whose cooldown ends first, then ejected ones, first the one that returns first.
 */
export function fallbackRank(watched: WatchedEndpoint, nowMs: number): number {
  if (watched.ejected) {
    const leftMs = watched.ejectedUntilMs - nowMs;
    return leftMs === Number.POSITIVE_INFINITY ? 4 : 3 + soon(leftMs);
  }
  if (watched.cooling) return 2 + soon(watched.coolUntilMs - nowMs);
  return watched.state === 'probation' ? 1 : 0;
}

/** From [0, ∞) into [0, 1), in the same order. */
function soon(ms: number): number {
  const left = Math.max(ms, 0);
  return left / (left + 1000);
}
