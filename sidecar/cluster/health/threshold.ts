/** Judges the results of health checks. Pure. */
import { type Arrows, step } from '../../errors/illegal-step.ts';
import { Status, type StatusCode } from '../../grpc/status.ts';
import type { HealthThresholds } from './health-check-settings.ts';
import type { ProbeResult } from './probe.ts';

/**
 * The conclusion from one check. `refuses`: the endpoint itself reported that it does not serve, which is no accident. `nothing`: it
 * is alive, and had no room for the check.
 */
export type HealthFinding = 'passes' | 'fails' | 'refuses' | 'nothing';

/**
 * Maps a probe's result to a finding. An endpoint that has no such service, or denies us access to it, passes because it is
 * alive: a wrong setting must not eject endpoints.
 *
 * @param status the endpoint's answer, if it gave one
 */
export function findingOf(result: ProbeResult, status: StatusCode | undefined): HealthFinding {
  switch (result) {
    case 'serving':
      return 'passes';
    case 'busy':
    case 'turned_away':
      return 'nothing';
    case 'unreachable':
      return 'fails';
    case 'not_serving':
    case 'no_health_service':
      break;
    default:
      return result satisfies never;
  }
  switch (status) {
    case Status.OK:
      return result === 'not_serving' ? 'refuses' : 'fails';
    case Status.UNIMPLEMENTED:
    case Status.UNAUTHENTICATED:
    case Status.PERMISSION_DENIED:
      return 'passes';
    case Status.CANCELLED:
    case Status.RESOURCE_EXHAUSTED:
      return 'nothing';
    default:
      return 'fails';
  }
}

export type HealthState = 'unknown' | 'healthy' | 'unhealthy';

/** The arrows of the drawing of {@link HealthThreshold}. */
export const HEALTH_ARROWS: Arrows<HealthState> = {
  unknown: ['healthy', 'unhealthy'],
  healthy: ['unhealthy'],
  unhealthy: ['healthy'],
};

/**
 * The health of one endpoint, by its latest checks:
 *
 *                  passes once                 fails unhealthy_threshold times in a row, or refuses once
 *      unknown ──────────────────▶ healthy ─────────────────────────────────────────────────────────▶ unhealthy
 *         │                           ▲                                                                 │   ▲
 *         │                           └──── passes healthy_threshold times in a row ────────────────────┘   │
 *         └──────────────────────── fails as often, or refuses ─────────────────────────────────────────────┘
 *
 * `nothing` changes nothing.
 */
export class HealthThreshold {
  state: HealthState = 'unknown';
  private inRow = 0;

  record(finding: HealthFinding, { unhealthyThreshold, healthyThreshold }: HealthThresholds): void {
    if (finding === 'nothing') return;
    const passes = finding === 'passes';
    if (passes === (this.state === 'healthy') && this.state !== 'unknown') {
      this.inRow = 0;
      return;
    }
    if (passes && this.state === 'unknown') {
      this.state = step(HEALTH_ARROWS, this.state, 'healthy');
      this.inRow = 0;
      return;
    }
    this.inRow++;
    const enough = passes ? healthyThreshold : finding === 'refuses' ? 1 : unhealthyThreshold;
    if (this.inRow < enough) return;
    this.state = step(HEALTH_ARROWS, this.state, passes ? 'healthy' : 'unhealthy');
    this.inRow = 0;
  }
}
