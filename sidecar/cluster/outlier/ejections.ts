/** Decides which endpoints are ejected, for how long, and how many may be. `detector.ts` draws the states. */
import { step } from '../../errors/illegal-step.ts';
import { EVIDENCE_BOUND, EVIDENCE_CAP } from './latency.ts';
import type { OutlierSettings } from './outlier-settings.ts';
import {
  type EjectionReason,
  ENDPOINT_ARROWS,
  refreshAdmits,
  type WatchedEndpoint,
} from './watched-endpoint.ts';

export interface OutlierEvent {
  readonly kind: 'ejected' | 'returned' | 'recovered';
  readonly endpoint: WatchedEndpoint;
  /** The reason of this ejection, or of the one that ends. */
  readonly reason: EjectionReason;
  /** For logs and `/events`. */
  readonly message: string;
  /** How long an ejection lasts; Infinity when a health check ends it. */
  readonly forMs: number;
}

/** The shortest second ejection of an unreachable endpoint; each further one doubles it. */
const REPEATED_RETURN_MS = 1_000;

export const NO_EVENTS: readonly OutlierEvent[] = [];

export class Ejections {
  settings: OutlierSettings;
  endpoints: readonly WatchedEndpoint[] = [];
  /** The number of endpoints that are ejected now. */
  count = 0;
  /** Ejections that the limit prevented. */
  overflows = 0;

  constructor(settings: OutlierSettings) {
    this.settings = settings;
  }

  /** The most endpoints that may be ejected at a time. */
  get max(): number {
    const count = this.endpoints.length;
    return Math.max(Math.min(Math.floor((count * this.settings.maxEjectionPercent) / 100), count - 1), 0);
  }

  eject(
    watched: WatchedEndpoint,
    reason: EjectionReason,
    detail: string,
    nowMs: number,
  ): OutlierEvent | undefined {
    if (this.count >= this.max) {
      this.overflows++;
      return undefined;
    }
    const forMs = this.nextDurationMs(watched, reason, nowMs);
    this.count++;
    watched.state = step(ENDPOINT_ARROWS, watched.state, 'ejected');
    watched.reason = reason;
    watched.detail = detail;
    watched.ejections++;
    watched.ejectedAtMs = nowMs;
    watched.ejectedUntilMs = nowMs + forMs;
    watched.healthySinceMs = Number.POSITIVE_INFINITY;
    watched.healthCheckFailedSince = watched.healthCheckFails;
    watched.epoch++;
    watched.outcomes.clear();
    watched.consecutive = 0;
    // On probation, one answer that is surely slow reaches the bound.
    for (const track of watched.latency) track?.reset(EVIDENCE_BOUND - EVIDENCE_CAP);
    refreshAdmits(watched);
    const until =
      forMs === Number.POSITIVE_INFINITY
        ? 'until its health check passes'
        : `for ${Math.round(forMs / 1000)} s`;
    const message = `${watched.address} is ejected ${until}: ${detail}`;
    return { kind: 'ejected', endpoint: watched, reason, message, forMs };
  }

  private nextDurationMs(watched: WatchedEndpoint, reason: EjectionReason, nowMs: number): number {
    if (reason === 'health_check') return Number.POSITIVE_INFINITY;
    const { intervalMs, baseEjectionTimeMs, maxEjectionTimeMs } = this.settings;
    const healthyIntervals = Math.max(Math.floor((nowMs - watched.healthySinceMs) / intervalMs), 0);
    watched.multiplier = Math.max(watched.multiplier - healthyIntervals, 0) + 1;
    return Math.min(baseEjectionTimeMs * watched.multiplier, maxEjectionTimeMs);
  }

  /**
   * Brings back an endpoint that was ejected as unreachable. One that flaps, such as an agent that crashes at each call,
   * waits longer with each ejection.
   */
  reached(watched: WatchedEndpoint, nowMs: number): OutlierEvent | undefined {
    const { ejected, removed, unreachable, healthCheckFails, multiplier, ejectedAtMs } = watched;
    if (!ejected || removed || !unreachable || healthCheckFails) return undefined;
    const waitMs = multiplier < 2 ? 0 : REPEATED_RETURN_MS * 2 ** Math.min(multiplier - 2, 16);
    watched.ejectedUntilMs = Math.min(watched.ejectedUntilMs, Math.max(nowMs, ejectedAtMs + waitMs));
    return watched.ejectedUntilMs <= nowMs
      ? this.bringBack(watched, 'it can be reached again', nowMs)
      : undefined;
  }

  /** Lets an ejected endpoint back on probation. */
  bringBack(watched: WatchedEndpoint, because: string, nowMs: number): OutlierEvent {
    this.count--;
    watched.state = step(ENDPOINT_ARROWS, watched.state, 'probation');
    watched.epoch++;
    watched.returnedAtMs = nowMs;
    watched.probing = 0;
    watched.answers = 0;
    watched.successes = 0;
    refreshAdmits(watched);
    const message = `${watched.address} is back on probation: ${because}`;
    return { kind: 'returned', endpoint: watched, reason: watched.reason!, message, forMs: 0 };
  }

  /** Ends a probation. The latency evidence from it stays, up to EVIDENCE_CAP. */
  recover(watched: WatchedEndpoint, nowMs: number): OutlierEvent {
    watched.state = step(ENDPOINT_ARROWS, watched.state, 'in_service');
    watched.healthySinceMs = nowMs;
    for (const track of watched.latency) {
      if (track !== undefined) track.evidence = Math.min(track.evidence, EVIDENCE_CAP);
    }
    refreshAdmits(watched);
    const message = `${watched.address} has completed its probation`;
    return { kind: 'recovered', endpoint: watched, reason: watched.reason!, message, forMs: 0 };
  }

  /** When more are ejected than the limit allows, brings back those that would return first. */
  keepLimit(nowMs: number): readonly OutlierEvent[] {
    if (this.count <= this.max) return NO_EVENTS;
    const ejected = this.endpoints.filter((endpoint) => endpoint.ejected);
    ejected.sort((one, other) => (one.ejectedUntilMs < other.ejectedUntilMs ? -1 : 1));
    const because = `only ${this.max} endpoints may be ejected now`;
    return ejected
      .slice(0, this.count - this.max)
      .map((endpoint) => this.bringBack(endpoint, because, nowMs));
  }
}
