/**
 * Estimates how long an endpoint takes to answer: the peak EWMA of its latencies.
 *
 * Latency rises at once to a slower answer and falls slowly to faster ones, so an endpoint that begins to stall
 * loses traffic with its first slow answer (the idea is Finagle's). Without answers the estimate decays, so that
 * an endpoint which was slow once is tried again.
 */

/** Time in which an estimate loses 63 % of its weight. */
export const DECAY_MS = 10_000;
/** What an endpoint costs between its first call and that call's answer. */
const DEFAULT_RTT_MS = 30;
const MIN_RTT_MS = 0.01;
/** One failure moves traffic for some seconds; one after the other, they soon move all of it. */
const FAILURE_FACTOR = 3;
const MAX_FAILURE_RTT_MS = 10_000;

/** The estimate's part of an endpoint. Start it with {@link UNSEEN}. */
export interface RttState {
  /** Peak EWMA at `rttAtMs`; 0 as long as nothing has been observed. */
  rttMs: number;
  /** When the last answer was observed. */
  rttAtMs: number;
  /** When a call was last sent there on the strength of a stale estimate. */
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
 * For answers of the endpoint only, whatever their status says of the request; see {@link observeFailure}.
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
 * Counts an attempt whose verdict was failure after `elapsedMs`. A refusal takes no time at all: counted as an
 * answer, it would draw all the traffic to the broken endpoint. It counts as three times as slow as the endpoint
 * was, up to 10 s, so that a single error of an app doesn't empty an endpoint that is well.
 */
export function observeFailure(endpoint: RttState, elapsedMs: number, nowMs: number): void {
  const penaltyMs = Math.min((endpoint.rttMs || DEFAULT_RTT_MS) * FAILURE_FACTOR, MAX_FAILURE_RTT_MS);
  observeLatency(endpoint, Math.max(elapsedMs, penaltyMs), nowMs);
}

/** The estimate as it counts at `nowMs`, in milliseconds; 0 for an endpoint that nothing was ever sent to. */
export function decayedRtt(endpoint: RttState, nowMs: number): number {
  const rttMs = endpoint.rttMs === 0 ? DEFAULT_RTT_MS : endpoint.rttMs;
  const age = ageMs(endpoint, nowMs);
  return age > 0 ? rttMs * Math.exp(-age / DECAY_MS) : rttMs;
}

export function ageMs(endpoint: RttState, nowMs: number): number {
  return nowMs - Math.max(endpoint.rttAtMs, endpoint.rttProbedAtMs);
}
