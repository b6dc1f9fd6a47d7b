import type { CircuitEvidence } from './circuit-state.ts';
import type { Verdict } from './verdicts.ts';

/** Calls that a crash has cut are reported within this time of each other. */
const CRASH_MS = 1_000;

/**
 * A crash takes all calls in flight at an endpoint with it. That is one event: the first of them counts, and those
 * that had begun before it and are reported with it do not.
 */
export class LastCrash {
  #endpoint: unknown = undefined;
  #atMs = Number.NEGATIVE_INFINITY;

  /** Whether this failure is one more of the latest crash; if it may be another one, that is the latest from now on. */
  explains({ reason }: Verdict, nowMs: number, { endpoint, startedAtMs }: CircuitEvidence): boolean {
    if (endpoint === undefined || (reason !== 'connection_lost' && reason !== 'app_cut')) return false;
    const same = endpoint === this.#endpoint && startedAtMs <= this.#atMs;
    if (same && nowMs - this.#atMs < CRASH_MS) return true;
    this.#endpoint = endpoint;
    this.#atMs = nowMs;
    return false;
  }
}
