/**
 * Ejects endpoints that do worse than their peers, and lets them back on probation. Pure: monotonic milliseconds come in
 * as arguments, and events go out as results.
 *
 *                  fails, or is slow                       3 attempts ended well; or 3 were answered,
 *                 ┌─────────────────┐                      and an interval went by without a failure
 *                 ▼                 │                ┌───────────────────────────────┐
 *      ┌───── ejected ──time over─▶ probation ───────┘                               ▼
 *      │          ▲                    ▲                                        in_service
 *      │          └────────────────────┼─ failures in a row, failure rate, ──────────┘
 *      │                               │  latency, health check
 *      └─ its failed health check passes, it can be reached again, or fewer endpoints may be ejected now
 *
 * How long: base_ejection_time × how often it was ejected, at most max_ejection_time; that count shrinks by one with
 * each interval in service. With the default 30 s a replica that flaps is out for 30, 60, 90 … 300 s.
 *
 * How many: never more than max_ejection_percent of the endpoints, rounded down, and never the last one. With two
 * endpoints that is one, and with one none: ejecting the only replica would reject all calls, which the circuit breaker
 * decides, by method and with probes. A failing endpoint beyond that limit counts in `overflows`; the detector ejects it
 * when another has returned and it still fails.
 *
 * Panic: at 50 % the rest carries at most double load, so unlike Envoy we have no threshold at which ejections are
 * ignored. When no endpoint at all can be picked (the others are cooling down, or can't be reached), the cluster takes the
 * one with the lowest {@link fallbackRank}, ejected ones last: a call that may fail is better than one that surely does.
 *
 * Probation: one call may wait for its answer, then two, then four, then any number; the first failure, or an answer that
 * is surely slow, ejects again. A small weight instead would still send a burst to a replica that never answers.
 *
 * The detector does not count neutral ends (cancelled calls, throttling), our own answers (they end no attempt), and
 * attempts that began before the endpoint's state last changed.
 *
 * Recording allocates only at a method's first answer of an endpoint.
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

/** The outcome of an attempt's verdict. */
export type AttemptOutcome = 'success' | 'failure' | 'neutral';

/** How often `tick` checks the attempts that wait for an answer. */
const WAIT_CHECK_MS = 250;
/** The cooldown of an exhausted endpoint that gives no pushback; doubles while it stays exhausted. */
const BASE_COOLDOWN_MS = 1_000;
const MAX_GUESSED_COOLDOWN_MS = 10_000;
/** The longest pushback that counts: an hour given by mistake must not take an endpoint out of service. */
const MAX_COOLDOWN_MS = 60_000;

/** The outlier detection of one cluster. */
export class OutlierDetector {
  private readonly ejections: Ejections;
  /** Path → index into each endpoint's `latency`. */
  private readonly methods = new Map<string, number>();

  constructor(settings: OutlierSettings) {
    this.ejections = new Ejections(settings);
  }

  get endpoints(): readonly WatchedEndpoint[] {
    return this.ejections.endpoints;
  }

  get ejected(): number {
    return this.ejections.count;
  }

  /** The most endpoints that may be ejected at a time. */
  get maxEjected(): number {
    return this.ejections.max;
  }

  /** Ejections that the limit prevented. */
  get overflows(): number {
    return this.ejections.overflows;
  }

  add(address: string): WatchedEndpoint {
    const endpoint = new WatchedEndpoint(address);
    this.ejections.endpoints = [...this.endpoints, endpoint];
    return endpoint;
  }

  /** Removes an endpoint; its running attempts stop counting. With fewer endpoints fewer may be ejected, so others may return. */
  remove(endpoint: WatchedEndpoint, nowMs: number): readonly OutlierEvent[] {
    if (endpoint.removed) return NO_EVENTS;
    endpoint.removed = true;
    if (endpoint.ejected) this.ejections.count--;
    this.ejections.endpoints = this.endpoints.filter((other) => other !== endpoint);
    return this.ejections.keepLimit(nowMs);
  }

  /** New settings apply from now on; present ejections keep their end. */
  update(settings: OutlierSettings, nowMs: number): readonly OutlierEvent[] {
    this.ejections.settings = settings;
    return this.ejections.keepLimit(nowMs);
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
   * The request is complete: the endpoint's latency is measured from here. Do not call it while the caller still sends,
   * because the endpoint may be waiting for the caller then.
   */
  awaitAnswer(attempt: WatchedAttempt, method: string, nowMs: number): void {
    const { watched } = attempt;
    const slot = this.methods.get(method);
    if (slot === undefined || watched.ejected || watched.removed || this.endpoints.length < 2) return;
    const track = watched.latency[slot] ?? createTrack(watched, slot);
    if (!track.take(nowMs)) return;
    attempt.waitingSinceMs = nowMs;
    attempt.slot = slot;
    attempt.track = track;
    startWaiting(attempt);
  }

  /** The first response message arrived. For unary calls `end` follows at once, for streams much later. */
  answered(attempt: WatchedAttempt, method: string, nowMs: number): OutlierEvent | undefined {
    if (attempt.answered) return undefined;
    attempt.answered = true;
    const { watched, track } = attempt;
    stopWaiting(attempt);
    const counts = this.counts(attempt);
    this.probeEnded(attempt, counts);
    if (!counts) return undefined;
    if (watched.consecutive > 0) {
      watched.promising++;
      attempt.promisedInRun = watched.run;
    }
    if (track === undefined) {
      // Remember a method at its first answer: callers may invent paths, which are never answered.
      if (this.methods.size < MAX_METHODS && !this.methods.has(method))
        this.methods.set(method, this.methods.size);
      return undefined;
    }
    const latencyMs = nowMs - attempt.waitingSinceMs;
    track.refresh(this.endpoints, watched, attempt.slot, nowMs);
    track.add(latencyMs, attempt.waitingSinceMs);
    attempt.credited += track.credit(latencyMs, attempt.waitingSinceMs, attempt.credited);
    return this.judgeLatency(watched, track, attempt.slot, nowMs);
  }

  /**
   * The attempt is over. A stream that was answered and is cut later is a failure like any other. A cancelled attempt is
   * neutral, but the time that it waited in vain counts for the latency.
   */
  end(attempt: WatchedAttempt, outcome: AttemptOutcome, nowMs: number): OutlierEvent | undefined {
    const { watched, track } = attempt;
    stopWaiting(attempt);
    const counts = this.counts(attempt);
    this.probeEnded(attempt, counts && outcome === 'success');
    if (!counts) return undefined;
    if (outcome === 'success') return this.succeeded(attempt, nowMs);
    if (outcome === 'failure') {
      const event = this.failed(attempt, nowMs);
      if (event !== undefined) return event;
    }
    if (track === undefined || attempt.answered) return undefined;
    track.refresh(this.endpoints, watched, attempt.slot, nowMs);
    const waitedMs = nowMs - attempt.waitingSinceMs;
    // A short wait proves nothing about how quick the answer would have been.
    if (waitedMs <= track.limitMs) return undefined;
    track.add(waitedMs, attempt.waitingSinceMs);
    attempt.credited += track.credit(waitedMs, attempt.waitingSinceMs, attempt.credited);
    return this.judgeLatency(watched, track, attempt.slot, nowMs);
  }

  /** Ignores attempts that began before the last change of state, and attempts at an ejected endpoint. */
  private counts({ epoch, watched }: WatchedAttempt): boolean {
    return epoch === watched.epoch && !watched.ejected && !watched.removed;
  }

  private probeEnded(attempt: WatchedAttempt, well: boolean): void {
    if (!attempt.probe) return;
    attempt.probe = false;
    const { watched } = attempt;
    if (attempt.epoch !== watched.epoch) return;
    watched.probing--;
    if (well) watched.answers++;
    refreshAdmits(watched);
  }

  private succeeded(attempt: WatchedAttempt, nowMs: number): OutlierEvent | undefined {
    const { watched, begunAtMs } = attempt;
    watched.outcomes.push(false, nowMs);
    watched.lastSuccessBegunAtMs = Math.max(watched.lastSuccessBegunAtMs, begunAtMs);
    watched.consecutive = 0;
    watched.throttled = 0;
    watched.unreachable = watched.silent = false;
    if (watched.state !== 'probation') return undefined;
    watched.successes++;
    return watched.successes < PROBATION_SUCCESSES ? undefined : this.ejections.recover(watched, nowMs);
  }

  private failed(attempt: WatchedAttempt, nowMs: number): OutlierEvent | undefined {
    const { watched } = attempt;
    watched.outcomes.push(true, nowMs);
    watched.lastFailureAtMs = nowMs;
    noteReach(watched, attempt);
    // Ignore failures of attempts started before the latest success: they are no part of a run.
    if (attempt.begunAtMs >= watched.lastSuccessBegunAtMs) {
      if (watched.consecutive++ === 0) {
        watched.run++;
        watched.runSinceMs = attempt.begunAtMs;
        watched.promising = 0;
      }
      if (attempt.promisedInRun === watched.run) watched.promising--;
    }
    const finding = judgeFailures(watched, this.endpoints, this.ejections.settings, nowMs);
    if (finding === undefined) return undefined;
    return this.ejections.eject(watched, finding.reason, finding.detail, nowMs);
  }

  private judgeLatency(
    watched: WatchedEndpoint,
    track: LatencyTrack,
    slot: number,
    nowMs: number,
  ): OutlierEvent | undefined {
    if (!track.conclusive || !track.peersWereQuick(this.endpoints, watched, slot, nowMs)) return undefined;
    const median = Math.round(track.peerMedianMs);
    const detail = `first messages take over ${Math.round(track.limitMs)} ms, and ${median} ms at its peers`;
    return this.ejections.eject(watched, 'latency', detail, nowMs);
  }

  // --- Throttling and active health checks -----------------------------------------------------------------

  /**
   * The endpoint answered RESOURCE_EXHAUSTED: the balancer avoids it for its pushback, at most a minute; or for 1 s,
   * doubling to 10 s, when it gave none (or a negative one, which only concerns retries).
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
   * An active health check has a result (the checker has applied its thresholds). A failing check ejects the endpoint until
   * it passes. A passing check brings back an endpoint that a check had ejected, and one that calls had ejected if a check
   * has failed since: then something has changed there. A check that passed all the time proves nothing.
   *
   * @param detail what the check found, as text for logs and pages
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
      return watched.ejected ? undefined : this.ejections.eject(watched, 'health_check', detail, nowMs);
    }
    if (!watched.ejected || !watched.healthCheckFailedSince) return undefined;
    return this.ejections.bringBack(watched, detail, nowMs);
  }

  /**
   * The endpoint can be reached again. If it was ejected as unreachable it returns on probation, the first time at once; if
   * its answers or its health check caused the ejection, it stays ejected.
   */
  reached(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    return this.ejections.reached(watched, nowMs);
  }

  // --- Time ------------------------------------------------------------------------------------------------

  /** Handles the passing of time: returns, the latency of waiting attempts, postponed ejections by health checks. */
  tick(nowMs: number): readonly OutlierEvent[] {
    let events: OutlierEvent[] | undefined;
    for (const endpoint of this.endpoints) {
      const event = this.tickEndpoint(endpoint, nowMs);
      if (event === undefined) continue;
      events ??= [];
      events.push(event);
    }
    return events ?? NO_EVENTS;
  }

  private tickEndpoint(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    if (watched.cooling && watched.coolUntilMs <= nowMs) {
      watched.cooling = false;
      refreshAdmits(watched);
    }
    if (watched.ejected) {
      if (nowMs < watched.ejectedUntilMs) return undefined;
      if (!watched.healthCheckFails)
        return this.ejections.bringBack(watched, 'its ejection time is over', nowMs);
      watched.ejectedUntilMs = Number.POSITIVE_INFINITY;
      return undefined;
    }
    if (watched.healthCheckFails && this.ejections.count < this.ejections.max)
      return this.ejections.eject(watched, 'health_check', 'its health check fails', nowMs);
    if (this.probationEndsAtMs(watched) <= nowMs) return this.ejections.recover(watched, nowMs);
    return this.tickWaiting(watched, nowMs);
  }

  private probationEndsAtMs(watched: WatchedEndpoint): number {
    if (watched.state !== 'probation' || watched.answers < PROBATION_SUCCESSES)
      return Number.POSITIVE_INFINITY;
    return watched.returnedAtMs + this.ejections.settings.intervalMs;
  }

  private tickWaiting(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    for (let attempt = watched.oldestWaiting; attempt !== undefined; attempt = attempt.younger) {
      if (attempt.credited >= EVIDENCE_CAP || !this.counts(attempt)) continue;
      const track = attempt.track!;
      track.refresh(this.endpoints, watched, attempt.slot, nowMs);
      const waitedMs = nowMs - attempt.waitingSinceMs;
      if (waitedMs > track.limitMs)
        attempt.credited += track.credit(waitedMs, attempt.waitingSinceMs, attempt.credited);
    }
    for (let slot = 0; slot < watched.latency.length; slot++) {
      const track = watched.latency[slot];
      const event = track === undefined ? undefined : this.judgeLatency(watched, track, slot, nowMs);
      if (event !== undefined) return event;
    }
    return undefined;
  }

  /** Returns when to call `tick` next; Infinity when nothing can happen without a call. */
  nextAtMs(nowMs: number): number {
    let next = Number.POSITIVE_INFINITY;
    for (const endpoint of this.endpoints) {
      if (endpoint.ejected) next = Math.min(next, endpoint.ejectedUntilMs);
      else if (endpoint.oldestWaiting !== undefined) next = Math.min(next, nowMs + WAIT_CHECK_MS);
      if (endpoint.cooling) next = Math.min(next, endpoint.coolUntilMs);
      next = Math.min(next, this.probationEndsAtMs(endpoint));
    }
    return next;
  }
}

function createTrack(watched: WatchedEndpoint, slot: number): LatencyTrack {
  const track = new LatencyTrack();
  if (watched.state === 'probation') track.reset(EVIDENCE_BOUND - EVIDENCE_CAP);
  // Fill the slots in between: V8 reads a list with holes more slowly.
  while (watched.latency.length <= slot) watched.latency.push(undefined);
  watched.latency[slot] = track;
  return track;
}

/**
 * Ranks endpoints when none admits a call: the lower, the better. First an endpoint on probation that has all its probes,
 * then the one whose cooldown ends first, then the ejected one that returns first.
 */
export function fallbackRank(watched: WatchedEndpoint, nowMs: number): number {
  if (watched.ejected) {
    const leftMs = watched.ejectedUntilMs - nowMs;
    return leftMs === Number.POSITIVE_INFINITY ? 4 : 3 + soon(leftMs);
  }
  if (watched.cooling) return 2 + soon(watched.coolUntilMs - nowMs);
  return watched.state === 'probation' ? 1 : 0;
}

/** Maps [0, ∞) to [0, 1) in the same order. */
function soon(ms: number): number {
  const left = Math.max(ms, 0);
  return left / (left + 1000);
}
