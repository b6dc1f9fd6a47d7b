/** Recognises the failures that one crash of an endpoint causes. */
import type { CircuitEvidence } from './circuit-state.ts';
import type { Verdict } from './verdicts.ts';

/** Calls that a crash has cut are reported within this time of each other. */
const CRASH_MS = 1_000;

/**
 * A crash ends all calls in flight at an endpoint. It is one event: its first failure counts, and calls that began
 * before it and are reported with it do not.
 */
export class LastCrash {
  private endpoint: unknown = undefined;
  private atMs = Number.NEGATIVE_INFINITY;

  /** Whether this failure belongs to the latest crash. If it may be another crash, that one is the latest from now on. */
  explains({ reason }: Verdict, nowMs: number, { endpoint, startedAtMs }: CircuitEvidence): boolean {
    if (endpoint === undefined || (reason !== 'connection_lost' && reason !== 'app_cut')) return false;
    const same = endpoint === this.endpoint && startedAtMs <= this.atMs;
    if (same && nowMs - this.atMs < CRASH_MS) return true;
    this.endpoint = endpoint;
    this.atMs = nowMs;
    return false;
  }
}
