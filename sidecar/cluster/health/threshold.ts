import { Status, type StatusCode } from '../../grpc/status.ts';
import type { HealthThresholds } from './health-check-settings.ts';
import type { ProbeResult } from './probe.ts';

/**
 * What a check proves. `refuses`: the endpoint itself said that it does not serve, which is no accident. `nothing`:
 * it lives, and had no room for the question.
 */
export type HealthFinding = 'passes' | 'fails' | 'refuses' | 'nothing';

/**
 * @param status what the endpoint answered, if it did
 *
 * An endpoint that has no such service, or does not let us ask it, is healthy because it lives: a setting that is
 * wrong must not take endpoints away.
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
    default:
      break;
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

/**
 *                  passes once                 fails unhealthy_threshold times in a row, or refuses once
 *      unknown ──────────────────▶ healthy ─────────────────────────────────────────────────────────▶ unhealthy
 *         │                           ▲                                                                 │   ▲
 *         │                           └──── passes healthy_threshold times in a row ────────────────────┘   │
 *         └──────────────────────── fails as often, or refuses ─────────────────────────────────────────────┘
 *
 * `nothing` leaves all as it is.
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
      this.state = 'healthy';
      this.inRow = 0;
      return;
    }
    this.inRow++;
    const enough = passes ? healthyThreshold : finding === 'refuses' ? 1 : unhealthyThreshold;
    if (this.inRow < enough) return;
    this.state = passes ? 'healthy' : 'unhealthy';
    this.inRow = 0;
  }
}
