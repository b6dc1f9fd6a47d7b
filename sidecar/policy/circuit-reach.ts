/**
 * Whether a circuit's failures show that no endpoint was reachable. The latest failure counts. After a silence, a later
 * check counts: an endpoint that gives no sign of life was absent.
 */
import type { CircuitEvidence } from './circuit-state.ts';

export class CircuitReach {
  unreachable = false;
  private silent = false;

  failed({ unreachable, silent }: CircuitEvidence): void {
    if (unreachable === undefined) return;
    this.unreachable = unreachable;
    this.silent = silent;
  }

  /** An endpoint answered with success. */
  answered(): void {
    this.unreachable = false;
    this.silent = false;
  }

  /** An endpoint gives no sign of life. */
  absent(): void {
    this.unreachable ||= this.silent;
  }
}
