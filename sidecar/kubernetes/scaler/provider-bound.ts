/**
 * Judges whether the work waits for the quota of the models' provider: then another replica would only be refused, too. Pure.
 *
 * Evidence is what the sidecars of the pods have seen within the last minute. A provider that is asked for more than its quota
 * answers 429 to a good part of the attempts. When it says for how long, the egress sends nothing meanwhile: there are few
 * attempts then, and requests wait. Either of the two is enough. A single 429 among many answers is not, and neither are
 * 429s of one provider while another one takes the requests.
 */
import type { PodPage } from './pod-page.ts';

const EVIDENCE_MS = 60_000;
/** This share of the attempts throttled, or of the requests waiting. */
const SHARE = 0.25;
const MAX_SIGHTINGS = 20_000;

interface Sighting {
  readonly atMs: number;
  readonly attempts: number;
  readonly throttled: number;
  readonly requests: number;
  readonly waiting: number;
}

export class ProviderBound {
  private readonly sightings: Sighting[] = [];

  /** @param before the page before this one, of the same pod; undefined for the first */
  add(atMs: number, page: PodPage, before: PodPage | undefined): void {
    const isNew = before === undefined || page.startedAtSeconds !== before.startedAtSeconds;
    const attempts = page.modelAttempts - (isNew ? 0 : before.modelAttempts);
    const throttled = page.throttledAttempts - (isNew ? 0 : before.throttledAttempts);
    this.sightings.push({
      atMs,
      attempts: Math.max(0, attempts),
      throttled: Math.max(0, throttled),
      requests: page.modelRequests,
      waiting: page.cooling ? page.waitingRequests : 0,
    });
    const oldest = this.sightings.findIndex((sighting) => sighting.atMs > atMs - EVIDENCE_MS);
    this.sightings.splice(0, Math.max(oldest, this.sightings.length - MAX_SIGHTINGS, 0));
  }

  isBound(nowMs: number): boolean {
    let attempts = 0;
    let throttled = 0;
    let requests = 0;
    let waiting = 0;
    for (const sighting of this.sightings) {
      if (sighting.atMs <= nowMs - EVIDENCE_MS) continue;
      attempts += sighting.attempts;
      throttled += sighting.throttled;
      requests += sighting.requests;
      waiting += sighting.waiting;
    }
    return isShare(throttled, attempts) || isShare(waiting, requests);
  }
}

function isShare(part: number, whole: number): boolean {
  return part > 0 && part >= SHARE * whole;
}
