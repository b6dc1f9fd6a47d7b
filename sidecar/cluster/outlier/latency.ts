/**
 * Finds the replica that is far slower than its peers.
 *
 * A model takes 2 s for one prompt and 20 s for the next, answers from a cache take 5 ms, and that is no fault. So neither
 * a mean nor a fixed limit will do, and no single slow answer proves anything. The test computes how likely these answers
 * would be from a peer. For each endpoint and method:
 *
 *     limit     four times the median of the peers' answers, and 100 ms at least
 *     usual     the share of the peers' answers above the limit: (above + 1) / (answers + 2)
 *     evidence  + ln(0.9 / usual) for an answer above the limit, more the further it is beyond the slowest of
 *                 the peers' answers, 4 at most;  - about 2.3 for one below it;  never under 0
 *
 * At {@link EVIDENCE_BOUND} the endpoint is an outlier. This is a sequential test (Wald 1945; as a running one,
 * CUSUM, Page 1954): it takes three answers when peers are steady, six or seven when one in ten of theirs is slow
 * too, and two dozen where half of them are. The bound keeps ordinary variance from causing ejections. Simulated for
 * 720 hours at one call a second, with 2 and 4 replicas, it was reached by chance: never with log-normal latencies
 * whose p99 is three times the median; once in about 150 hours where it is six to ten times the median; once in 80
 * where one answer in ten comes from a slow model and the others from a cache, and once in 30 where half of them do.
 * `simulation.test.ts` simulates a day of each. A bound of 15 costs one answer more.
 *
 * An attempt without an answer is evidence as soon as it has waited longer than the limit: a stopped process answers
 * nothing, and its answers would only be counted at the deadlines.
 */
/** The most methods tracked in a cluster. An agent has three; paths that callers invent must not grow our memory. */
export const MAX_METHODS = 8;
export const EVIDENCE_BOUND = 12;
/** The most evidence of one attempt: so an ejection takes three, as with failures. */
export const EVIDENCE_CAP = 4;

const SAMPLES = 64;
/** With fewer samples, the peers' median means nothing. */
const MIN_PEER_SAMPLES = 5;
/** An endpoint that is twice as slow may only be loaded, which the balancer handles. */
const SLOW_RATIO = 4;
/** Callers of a model do not notice less; a pause for garbage collection, or of the machine, is shorter. */
const FLOOR_MS = 100;
/** The share of a slow endpoint's answers that are above the limit. */
const SLOW_SHARE = 0.9;
/**
 * Of attempts that begin within this time only one counts: a short stall hits all of them, and is one piece of evidence.
 * It also bounds the cost at thousands of calls a second.
 */
const SPACING_MS = 100;
/** How long limit and usual share are valid before they are computed again. */
const BASELINE_MS = 1_000;

const SLOW_STARTS = 3;
/** The most peers that are compared before an ejection; sixteen of a hundred are enough. */
const PEERS_ASKED = 16;

const pool = new Float64Array(SAMPLES);

/** The part of an endpoint that the comparison of latencies reads. */
export interface LatencyPeer {
  readonly ejected: boolean;
  /** Indexed by the methods' slots. */
  readonly latency: readonly (LatencyTrack | undefined)[];
  readonly oldestWaiting: WaitingAttempt | undefined;
}

/** An attempt that has no answer yet. */
interface WaitingAttempt {
  readonly slot: number;
  readonly waitingSinceMs: number;
  readonly younger: WaitingAttempt | undefined;
}

/** The latencies of one method at one endpoint, and the evidence from them. */
export class LatencyTrack {
  readonly samplesMs = new Float64Array(SAMPLES);
  readonly sampleStartedAtMs = new Float64Array(SAMPLES);
  samples = 0;
  evidence = 0;
  /** When the latest slow attempts began. */
  readonly slowStartsMs = new Float64Array(SLOW_STARTS).fill(Number.POSITIVE_INFINITY);
  lastStartMs = Number.NEGATIVE_INFINITY;
  /** The latest start of an attempt that was answered below the limit. */
  lastQuickStartMs = Number.NEGATIVE_INFINITY;
  /** Infinity while the peers have too few samples. */
  limitMs = Number.POSITIVE_INFINITY;
  peerMedianMs = 0;
  private slowestMs = 0;
  private slowWeight = 0;
  private quickWeight = 0;
  private baselineAtMs = Number.NEGATIVE_INFINITY;

  /** Whether an attempt that begins to wait now counts; see {@link SPACING_MS}. */
  take(nowMs: number): boolean {
    if (nowMs - this.lastStartMs < SPACING_MS) return false;
    this.lastStartMs = nowMs;
    return true;
  }

  /** Adds a sample: the latency of an answer, or the time of a wait in vain. */
  add(latencyMs: number, startedAtMs: number): void {
    const index = this.samples % SAMPLES;
    this.samplesMs[index] = latencyMs;
    this.sampleStartedAtMs[index] = startedAtMs;
    this.samples++;
  }

  /** Returns the evidence of a latency, or of a wait so far: above 0 for an outlier, below 0 against. */
  private weigh(latencyMs: number): number {
    if (this.limitMs === Number.POSITIVE_INFINITY) return 0;
    if (latencyMs <= this.limitMs) return this.quickWeight;
    // Assume that answers twice as slow as any peer's are half as likely: a tail as heavy as any that we measured.
    const beyond = Math.max(Math.log(latencyMs / this.slowestMs), 0);
    return Math.min(this.slowWeight + beyond, EVIDENCE_CAP);
  }

  /** Adds the evidence of an attempt's latency, or of its wait so far, beyond the `credited` part. @returns the addition */
  credit(latencyMs: number, startedAtMs: number, credited: number): number {
    const weight = this.weigh(latencyMs) - credited;
    if (weight > 0) {
      // An attempt that began later was answered quickly: this call is long by itself, or the stall is over.
      if (startedAtMs < this.lastQuickStartMs) return 0;
      if (credited === 0) this.noteSlowStart(startedAtMs);
    } else {
      if (credited > 0) return 0;
      this.lastQuickStartMs = Math.max(this.lastQuickStartMs, startedAtMs);
    }
    // Cap the evidence at the bound: slowness that peers shared must not count for long.
    this.evidence = Math.min(Math.max(this.evidence + weight, 0), EVIDENCE_BOUND);
    return weight;
  }

  private noteSlowStart(startedAtMs: number): void {
    this.slowStartsMs.copyWithin(0, 1);
    this.slowStartsMs[SLOW_STARTS - 1] = startedAtMs;
  }

  get conclusive(): boolean {
    // A sum of parts may miss the bound by a rounding error.
    return this.evidence >= EVIDENCE_BOUND - 1e-9;
  }

  /** Clears the samples; `evidence` is the new start value. */
  reset(evidence: number): void {
    this.samples = 0;
    this.evidence = evidence;
    this.slowStartsMs.fill(Number.POSITIVE_INFINITY);
  }

  /** Computes limit and usual share from the peers: all endpoints that are not ejected, except `self`. */
  refresh(endpoints: readonly LatencyPeer[], self: LatencyPeer, slot: number, nowMs: number): void {
    if (this.limitMs !== Number.POSITIVE_INFINITY && nowMs - this.baselineAtMs < BASELINE_MS) return;
    this.baselineAtMs = nowMs;
    const count = poolOf(endpoints, self, slot);
    if (count < MIN_PEER_SAMPLES) {
      this.limitMs = Number.POSITIVE_INFINITY;
      return;
    }
    const sorted = pool.subarray(0, count).sort();
    this.peerMedianMs = sorted[(count - 1) >> 1]!;
    this.limitMs = Math.max(this.peerMedianMs * SLOW_RATIO, FLOOR_MS);
    let above = 0;
    while (above < count && sorted[count - 1 - above]! > this.limitMs) above++;
    const usual = (above + 1) / (count + 2);
    this.slowestMs = Math.max(sorted[count - 1]!, this.limitMs);
    this.slowWeight = Math.max(Math.log(SLOW_SHARE / usual), 0);
    this.quickWeight = Math.min(Math.log((1 - SLOW_SHARE) / (1 - usual)), 0);
  }

  /**
   * Whether peers were quick while this endpoint was slow: of the attempts begun since its third last slow one, at least
   * three answers below the limit, and four for each that is above it or has waited as long. When the provider behind all
   * endpoints stalls, none is the outlier.
   */
  peersWereQuick(endpoints: readonly LatencyPeer[], self: LatencyPeer, slot: number, nowMs: number): boolean {
    const sinceMs = Math.min(...this.slowStartsMs);
    let quick = 0;
    let slow = 0;
    let peers = 0;
    for (const endpoint of endpoints) {
      const track = endpoint === self || endpoint.ejected ? undefined : endpoint.latency[slot];
      if (track === undefined) continue;
      for (let i = 0; i < Math.min(track.samples, SAMPLES); i++) {
        if (track.sampleStartedAtMs[i]! < sinceMs) continue;
        if (track.samplesMs[i]! <= this.limitMs) quick++;
        else slow++;
      }
      slow += countWaiting(endpoint, slot, sinceMs, nowMs - this.limitMs);
      if (++peers === PEERS_ASKED) break;
    }
    return quick >= 3 && quick >= 4 * slow;
  }
}

/** Counts waiting attempts begun at `fromMs` or later and before `toMs`. */
function countWaiting(endpoint: LatencyPeer, slot: number, fromMs: number, toMs: number): number {
  let count = 0;
  let attempt = endpoint.oldestWaiting;
  for (; attempt !== undefined && attempt.waitingSinceMs < toMs; attempt = attempt.younger) {
    if (attempt.slot === slot && attempt.waitingSinceMs >= fromMs) count++;
  }
  return count;
}

/** Fills `pool` with the latest samples of each peer, as many of each as fit; returns how many. */
function poolOf(endpoints: readonly LatencyPeer[], self: LatencyPeer, slot: number): number {
  const share = Math.max(Math.floor(SAMPLES / Math.max(endpoints.length - 1, 1)), 1);
  let count = 0;
  for (const endpoint of endpoints) {
    const track = endpoint === self || endpoint.ejected ? undefined : endpoint.latency[slot];
    if (track === undefined) continue;
    for (let i = 1; i <= Math.min(track.samples, share) && count < SAMPLES; i++) {
      pool[count++] = track.samplesMs[(track.samples - i) % SAMPLES]!;
    }
    if (count === SAMPLES) break;
  }
  return count;
}
