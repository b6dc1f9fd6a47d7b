/**
 * Estimates how long an endpoint takes to answer: the peak EWMA of its latencies.
 *
 * Latency rises at once to a slower answer and falls slowly to faster ones, so an endpoint that begins to stall
 * loses traffic with its first slow answer (the idea is Finagle's). Without answers the estimate decays, so that
 * an endpoint which was slow once is tried again.
 */

/** The time in which an estimate loses 63 % of its weight. */
export const DECAY_MS = 10_000;
/** The estimate between an endpoint's first call and the answer to it. */
const DEFAULT_RTT_MS = 30;
const MIN_RTT_MS = 0.01;
/** One failure moves traffic away for some seconds; repeated failures soon move all of it. */
const FAILURE_FACTOR = 3;
const MAX_FAILURE_RTT_MS = 10_000;

/** The estimate's fields of an endpoint. Start them with {@link UNSEEN}. */
export interface RttState {
  /** Peak EWMA at `rttAtMs`; 0 before the first observation. */
  rttMs: number;
  /** When the last answer arrived. */
  rttAtMs: number;
  /** When the balancer last picked it by a stale estimate. */
  rttProbedAtMs: number;
}

export const UNSEEN: Readonly<RttState> = {
  rttMs: 0,
  rttAtMs: Number.NEGATIVE_INFINITY,
  rttProbedAtMs: Number.NEGATIVE_INFINITY,
};

/**
 * Counts an answer: the time from the attempt's start to its first response frame, in milliseconds.
 *
 * Only for answers of the endpoint, whatever their status; for failures see {@link observeFailure}.
 */
export function observeLatency(endpoint: RttState, latencyMs: number, nowMs: number): void {
  const latency = Math.max(latencyMs, MIN_RTT_MS);
  if (endpoint.rttMs === 0 || latency >= endpoint.rttMs) {
    endpoint.rttMs = latency;
  } else {
    const kept = Math.exp(-Math.max(nowMs - endpoint.rttAtMs, 0) / DECAY_MS);
    endpoint.rttMs = endpoint.rttMs * kept + latency * (1 - kept);
  }
  endpoint.rttAtMs = nowMs;
}

/**
 * Counts an attempt whose verdict was failure after `elapsedMs`. A refused connection takes no time at all: counted as an
 * answer, it would attract all traffic to the broken endpoint. A failure counts as three times the endpoint's latency, up
 * to 10 s, so that a single error of the app doesn't move all traffic away from a healthy endpoint.
 */
export function observeFailure(endpoint: RttState, elapsedMs: number, nowMs: number): void {
  const penaltyMs = Math.min((endpoint.rttMs || DEFAULT_RTT_MS) * FAILURE_FACTOR, MAX_FAILURE_RTT_MS);
  observeLatency(endpoint, Math.max(elapsedMs, penaltyMs), nowMs);
}

/** Returns the decayed estimate at `nowMs`, in milliseconds; 0 for an endpoint that has had no call yet. */
export function decayedRtt(endpoint: RttState, nowMs: number): number {
  const rttMs = endpoint.rttMs === 0 ? DEFAULT_RTT_MS : endpoint.rttMs;
  const age = ageMs(endpoint, nowMs);
  return age > 0 ? rttMs * Math.exp(-age / DECAY_MS) : rttMs;
}

export function ageMs(endpoint: RttState, nowMs: number): number {
  return nowMs - Math.max(endpoint.rttAtMs, endpoint.rttProbedAtMs);
}
