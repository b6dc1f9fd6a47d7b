/**
 * Judges whether an endpoint that has just failed is an outlier: by failures in a row, by its own failure rate, or by its
 * success rate beside that of its peers.
 *
 * When all endpoints fail, the cause is behind them, at the model's provider for example. Ejecting one of them would only
 * load the others, and keep it out of service after the cause is fixed. So each rule compares with the peers, too.
 */
import type { OutlierSettings } from './outlier-settings.ts';
import { leastDifference, lowestRate } from './rates.ts';
import type { EjectionReason, WatchedEndpoint } from './watched-endpoint.ts';

export interface Finding {
  readonly reason: EjectionReason;
  readonly detail: string;
}

/** Two minutes by default: 30 calls each, with four replicas at one call a second. */
const WINDOW_INTERVALS = 4;
/** With fewer calls, an endpoint or its peers have no meaningful rate. */
const MIN_CALLS = 5;
/** Two in a row happen by chance, however rare failures are: a lost connection, for example, causes several. */
const MIN_FAILURES = 3;
/** The failure rate must certainly exceed the peers' by this much: less is no reason to move traffic. */
const MIN_DIFFERENCE = 0.1;
/** An endpoint that certainly fails more often than not is ejected, however little we know of its peers. */
const FAILING_RATE = 0.5;
/** Up to this failure rate of the best peer, the configured number of failures in a row applies unchanged. */
const USUAL_RATE = 0.1;

/** Call it after each failure of an endpoint in service or on probation. */
export function judgeFailures(
  watched: WatchedEndpoint,
  endpoints: readonly WatchedEndpoint[],
  settings: OutlierSettings,
  nowMs: number,
): Finding | undefined {
  const windowMs = WINDOW_INTERVALS * settings.intervalMs;
  if (peersFailToo(watched, endpoints)) return undefined;
  if (watched.state === 'probation') {
    if (bestPeerRate(watched, endpoints, nowMs, windowMs) >= FAILING_RATE) return undefined;
    return { reason: 'consecutive_failures', detail: 'a call failed on probation' };
  }
  return inARow(watched, endpoints, settings, nowMs, windowMs) ?? byRate(watched, endpoints, nowMs, windowMs);
}

/** Since this endpoint's run of failures began, peers have failed, and no attempt begun since has succeeded at a peer. */
function peersFailToo(watched: WatchedEndpoint, endpoints: readonly WatchedEndpoint[]): boolean {
  let fail = false;
  for (const other of endpoints) {
    if (other === watched || other.ejected) continue;
    if (other.lastSuccessBegunAtMs >= watched.runSinceMs) return false;
    fail ||= other.lastFailureAtMs >= watched.runSinceMs;
  }
  return fail;
}

function inARow(
  watched: WatchedEndpoint,
  endpoints: readonly WatchedEndpoint[],
  { consecutiveFailures }: OutlierSettings,
  nowMs: number,
  windowMs: number,
): Finding | undefined {
  const { consecutive, promising } = watched;
  // Streams that were answered since and still run count against a run, as successes in between would.
  if (consecutiveFailures === 0 || consecutive < consecutiveFailures || promising >= consecutive)
    return undefined;
  const needed = failuresNeeded(consecutiveFailures, bestPeerRate(watched, endpoints, nowMs, windowMs));
  if (consecutive < needed) return undefined;
  return { reason: 'consecutive_failures', detail: `${consecutive} failures in a row` };
}

/** Returns the run that is as unlikely at the peer's failure rate as the configured one is at {@link USUAL_RATE}. */
export function failuresNeeded(consecutiveFailures: number, peerRate: number): number {
  if (peerRate <= USUAL_RATE) return consecutiveFailures;
  if (peerRate >= 1) return Number.POSITIVE_INFINITY;
  return Math.ceil((consecutiveFailures * Math.log(USUAL_RATE)) / Math.log(peerRate));
}

function byRate(
  watched: WatchedEndpoint,
  endpoints: readonly WatchedEndpoint[],
  nowMs: number,
  windowMs: number,
): Finding | undefined {
  const { outcomes } = watched;
  outcomes.trim(nowMs, windowMs);
  const { calls, failures } = outcomes;
  if (calls < MIN_CALLS || failures < MIN_FAILURES) return undefined;
  const lowest = lowestRate(failures, calls);
  // Most failures end here, before any comparison with peers.
  if (lowest < MIN_DIFFERENCE) return undefined;
  const detail = `${failures} of its last ${calls} calls failed`;
  if (lowest >= FAILING_RATE && bestPeerRate(watched, endpoints, nowMs, windowMs) < FAILING_RATE)
    return { reason: 'failure_percentage', detail };
  let otherCalls = 0;
  let otherFailures = 0;
  for (const other of endpoints) {
    if (other === watched || other.ejected) continue;
    other.outcomes.trim(nowMs, windowMs);
    otherCalls += other.outcomes.calls;
    otherFailures += other.outcomes.failures;
  }
  if (otherCalls < MIN_CALLS) return undefined;
  if (leastDifference(failures, calls, otherFailures, otherCalls) < MIN_DIFFERENCE) return undefined;
  return { reason: 'success_rate', detail: `${detail}, ${otherFailures} of ${otherCalls} at the others` };
}

/** Returns the lowest failure rate among the peers; 0 when none has enough calls. */
function bestPeerRate(
  watched: WatchedEndpoint,
  endpoints: readonly WatchedEndpoint[],
  nowMs: number,
  windowMs: number,
): number {
  let best = 1;
  let known = false;
  for (const other of endpoints) {
    if (other === watched || other.ejected) continue;
    other.outcomes.trim(nowMs, windowMs);
    const { calls, failures } = other.outcomes;
    if (calls < MIN_CALLS) continue;
    known = true;
    best = Math.min(best, failures / calls);
  }
  return known ? best : 0;
}
