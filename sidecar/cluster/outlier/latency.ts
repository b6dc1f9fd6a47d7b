/**
 * Finding the replica that is far slower than its peers.
 *
 * A model takes 2 s for one prompt and 20 s for the next, answers from a cache take 5 ms, and that is no fault. So
 * neither a mean nor a fixed limit will do, and no single slow answer proves anything. What is asked is: how
 * likely were these answers, had a peer given them? For each endpoint and method:
 *
 *     limit     four times the median of the peers' answers, and 100 ms at least
 *     usual     the share of the peers' answers above the limit: (above + 1) / (answers + 2)
 *     evidence  + ln(0.9 / usual) for an answer above the limit, more the further it is from all that peers
 *                 ever took, 4 at most;  - about 2.3 for one below it;  never under 0
 *
 * At {@link EVIDENCE_BOUND} the endpoint is an outlier. This is a sequential test (Wald 1945; as a running one,
 * CUSUM, Page 1954): it takes three answers when peers are steady, six or seven when one in ten of theirs is slow
 * too, and two dozen where half of them are. The bound is what keeps ordinary variance from ejecting. Simulated for
 * 720 hours at one call a second, with 2 and 4 replicas, it was reached by chance: never with log-normal latencies
 * whose p99 is three times the median; once in about 150 hours where it is six to ten times the median; once in 80
 * where one answer in ten comes from a slow model and the others from a cache, and once in 30 where half of them do.
 * `outlier-simulation.test.ts` holds a day of each. A bound of 15 costs one answer more.
 *
 * An attempt without an answer is evidence as soon as it has waited longer than the limit: a stopped process
 * answers nothing, and whoever waits for its answers waits for deadlines.
 */
/** Methods that are told apart in a cluster. An agent has three; callers' inventions must not grow our memory. */
export const MAX_METHODS = 8;
export const EVIDENCE_BOUND = 12;
/** The most that one attempt can prove: so it takes three, as with failures. */
export const EVIDENCE_CAP = 4;

const SAMPLES = 64;
/** With fewer, the peers' median says nothing. */
const MIN_PEER_SAMPLES = 5;
/** Twice as slow is another machine's load, and the balancer's business. */
const SLOW_RATIO = 4;
/** Nobody who calls a model feels less; a pause for garbage, or of the machine, stays below it. */
const FLOOR_MS = 100;
/** How often an endpoint that really is slow is above the limit. */
const SLOW_SHARE = 0.9;
/**
 * Of attempts that begin close together one is looked at: a stall of a moment hits all of them, and is one piece of
 * evidence. It also bounds what this costs when there are thousands of calls a second.
 */
const SPACING_MS = 100;
/** How long limit and usual share hold before they are taken anew. */
const BASELINE_MS = 1_000;

const SLOW_STARTS = 3;
/** Peers whose answers are looked at before an ejection; of a hundred, sixteen know enough. */
const PEERS_ASKED = 16;

const pool = new Float64Array(SAMPLES);

/** An endpoint of the cluster, as far as latencies are compared. */
export interface LatencyPeer {
  readonly ejected: boolean;
  /** By the methods' slots. */
  readonly latency: readonly (LatencyTrack | undefined)[];
  readonly oldestWaiting: WaitingAttempt | undefined;
}

/** An attempt that has no answer yet. */
interface WaitingAttempt {
  readonly slot: number;
  readonly waitingSinceMs: number;
  readonly younger: WaitingAttempt | undefined;
}

/** The latencies of one method at one endpoint, and what they prove. */
export class LatencyTrack {
  readonly samplesMs = new Float64Array(SAMPLES);
  readonly sampleStartedAtMs = new Float64Array(SAMPLES);
  samples = 0;
  evidence = 0;
  /** When the latest slow attempts were begun. */
  readonly slowStartsMs = new Float64Array(SLOW_STARTS).fill(Number.POSITIVE_INFINITY);
  lastStartMs = Number.NEGATIVE_INFINITY;
  /** When the attempt was begun that was the latest of those answered below the limit. */
  lastQuickStartMs = Number.NEGATIVE_INFINITY;
  /** Infinity as long as the peers have shown too little. */
  limitMs = Number.POSITIVE_INFINITY;
  peerMedianMs = 0;
  private slowestMs = 0;
  private slowWeight = 0;
  private quickWeight = 0;
  private baselineAtMs = Number.NEGATIVE_INFINITY;

  /** Whether an attempt that begins to wait now is one to look at. */
  take(nowMs: number): boolean {
    if (nowMs - this.lastStartMs < SPACING_MS) return false;
    this.lastStartMs = nowMs;
    return true;
  }

  /** An answer came, or was waited for so long in vain. */
  add(latencyMs: number, startedAtMs: number): void {
    const index = this.samples % SAMPLES;
    this.samplesMs[index] = latencyMs;
    this.sampleStartedAtMs[index] = startedAtMs;
    this.samples++;
  }

  /** What a latency, or a wait that has not ended, proves: above 0 for, below 0 against its being an outlier. */
  private weigh(latencyMs: number): number {
    if (this.limitMs === Number.POSITIVE_INFINITY) return 0;
    if (latencyMs <= this.limitMs) return this.quickWeight;
    // As if answers twice as slow as any peer's were half as likely: a tail as heavy as any that was measured.
    const beyond = Math.max(Math.log(latencyMs / this.slowestMs), 0);
    return Math.min(this.slowWeight + beyond, EVIDENCE_CAP);
  }

  /** What more an attempt's latency proves, or its wait so far, beyond the `credited` that it has proved before. */
  credit(latencyMs: number, startedAtMs: number, credited: number): number {
    const weight = this.weigh(latencyMs) - credited;
    if (weight > 0) {
      // Overtaken: what was begun later has been answered quickly. This one is long, or its stall is over.
      if (startedAtMs < this.lastQuickStartMs) return 0;
      if (credited === 0) this.#noteSlowStart(startedAtMs);
    } else {
      if (credited > 0) return 0;
      this.lastQuickStartMs = Math.max(this.lastQuickStartMs, startedAtMs);
    }
    // Not above the bound: slowness that peers shared must not count for long.
    this.evidence = Math.min(Math.max(this.evidence + weight, 0), EVIDENCE_BOUND);
    return weight;
  }

  #noteSlowStart(startedAtMs: number): void {
    this.slowStartsMs.copyWithin(0, 1);
    this.slowStartsMs[SLOW_STARTS - 1] = startedAtMs;
  }

  get conclusive(): boolean {
    // What has been added up of parts may fall short by a rounding error.
    return this.evidence >= EVIDENCE_BOUND - 1e-9;
  }

  /** Forgets what the endpoint did; `evidence` is what it starts with. */
  reset(evidence: number): void {
    this.samples = 0;
    this.evidence = evidence;
    this.slowStartsMs.fill(Number.POSITIVE_INFINITY);
  }

  /** Takes limit and usual share from the peers: endpoints in service, besides `self`. */
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
   * Whether peers were quick while this endpoint was slow: of the attempts that were begun since its third last slow
   * one, three answers below the limit at least, and four for each that is above it or still waits so long. When the
   * provider behind all of them stalls, nobody is the outlier.
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

/** Attempts that wait, begun at `fromMs` or later and before `toMs`. */
function countWaiting(endpoint: LatencyPeer, slot: number, fromMs: number, toMs: number): number {
  let count = 0;
  let attempt = endpoint.oldestWaiting;
  for (; attempt !== undefined && attempt.waitingSinceMs < toMs; attempt = attempt.younger) {
    if (attempt.slot === slot && attempt.waitingSinceMs >= fromMs) count++;
  }
  return count;
}

/** The latest answers of each peer, as many of each as there is room for; returns how many. */
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
