/**
 * Probes before the recovery timeout is over, because an endpoint came back.
 *
 *     allowed ──▶ probing ──all succeed──▶ the circuit closes, and this begins anew with its next opening
 *        ▲           │
 *        │           └──a probe fails──▶ open until the recovery timeout is over, as it would have been
 *        └───────────────────────────────── an endpoint is back again, and a wait is over: 1 s, 2 s, 4 s …
 *
 * The wait limits endpoints that come and go, such as an agent that crashes at each call: whatever its connections do,
 * it gets fewer and fewer calls.
 *
 * The number of probes grows with time beyond `half_open_max`: an endpoint that was not reachable has given no wrong
 * answer, and its right answers may take long.
 */
import { type Backoff, backoffMs } from '../clock/backoff.ts';

const BACKOFF: Backoff = { baseMs: 1_000, multiplier: 2, maxMs: 300_000 };
/** The number of probes doubles in this time, up to the maximum number of doublings. */
const RAMP_MS = 1_000;
const MAX_DOUBLINGS = 10;

export class EarlyProbing {
  /** Early probes are admitted since then; Infinity while they are not. */
  probingSinceMs = Number.POSITIVE_INFINITY;
  /** When early probes may begin; Infinity while no endpoint is back. */
  atMs = Number.POSITIVE_INFINITY;
  private readonly random: () => number;
  private failures = 0;
  private notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(random: () => number) {
    this.random = random;
  }

  /** An endpoint is back. */
  allow(nowMs: number): void {
    this.atMs = Math.min(this.atMs, Math.max(nowMs, this.notBeforeMs));
  }

  /** The multiple of `half_open_max` that may be in flight. */
  growth(nowMs: number): number {
    if (this.probingSinceMs === Number.POSITIVE_INFINITY) return 1;
    return 2 ** Math.min(Math.floor((nowMs - this.probingSinceMs) / RAMP_MS), MAX_DOUBLINGS);
  }

  /** A probe failed. */
  failed(nowMs: number): void {
    this.failures++;
    this.notBeforeMs = nowMs + backoffMs(BACKOFF, this.failures, this.random());
    this.atMs = Number.POSITIVE_INFINITY;
  }

  /** The circuit opened anew. */
  reset(): void {
    this.failures = 0;
    this.notBeforeMs = Number.NEGATIVE_INFINITY;
    this.atMs = Number.POSITIVE_INFINITY;
  }
}
