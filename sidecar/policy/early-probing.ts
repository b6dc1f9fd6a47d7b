/**
 * Probes that are let in before the recovery timeout is over, because an endpoint came back.
 *
 *     allowed ──▶ probing ──all well──▶ the circuit closes, and this begins anew with its next opening
 *        ▲           │
 *        │           └──a probe fails──▶ open until the recovery timeout is over, as it would have been
 *        └───────────────────────────────── an endpoint is back again, and a wait is over: 1 s, 2 s, 4 s …
 *
 * The wait is for endpoints that come and go, such as an agent that crashes at each call: whatever its connections do, it
 * gets fewer and fewer calls.
 *
 * More probes are let in with time than `half_open_max`: an endpoint that could not be reached has given no wrong answer,
 * and its right ones may take long.
 */
import { type Backoff, backoffMs } from '../clock/backoff.ts';

const BACKOFF: Backoff = { baseMs: 1_000, multiplier: 2, maxMs: 300_000 };
/** The probes double in this time, up to so many doublings. */
const RAMP_MS = 1_000;
const MAX_DOUBLINGS = 10;

export class EarlyProbing {
  /** Probes are let in before their time since then; Infinity while they are not. */
  probingSinceMs = Number.POSITIVE_INFINITY;
  /** When they may begin; Infinity while no endpoint is back. */
  atMs = Number.POSITIVE_INFINITY;
  readonly #random: () => number;
  #failures = 0;
  #notBeforeMs = Number.NEGATIVE_INFINITY;

  constructor(random: () => number) {
    this.#random = random;
  }

  /** An endpoint is back. */
  allow(nowMs: number): void {
    this.atMs = Math.min(this.atMs, Math.max(nowMs, this.#notBeforeMs));
  }

  /** How many times `half_open_max` probes may be out. */
  growth(nowMs: number): number {
    if (this.probingSinceMs === Number.POSITIVE_INFINITY) return 1;
    return 2 ** Math.min(Math.floor((nowMs - this.probingSinceMs) / RAMP_MS), MAX_DOUBLINGS);
  }

  /** A probe has failed. */
  failed(nowMs: number): void {
    this.#failures++;
    this.#notBeforeMs = nowMs + backoffMs(BACKOFF, this.#failures, this.#random());
    this.atMs = Number.POSITIVE_INFINITY;
  }

  /** The circuit has opened anew. */
  reset(): void {
    this.#failures = 0;
    this.#notBeforeMs = Number.NEGATIVE_INFINITY;
    this.atMs = Number.POSITIVE_INFINITY;
  }
}
