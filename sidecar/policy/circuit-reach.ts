/**
 * Whether a circuit's failures say that nobody was there. The latest one counts, and after a silence what is found out of it
 * later: an endpoint that gives no sign of life was absent.
 */
import type { CircuitEvidence } from './circuit-state.ts';

export class CircuitReach {
  unreachable = false;
  #silent = false;

  failed({ unreachable, silent }: CircuitEvidence): void {
    if (unreachable === undefined) return;
    this.unreachable = unreachable;
    this.#silent = silent;
  }

  /** Somebody answered well. */
  answered(): void {
    this.unreachable = false;
    this.#silent = false;
  }

  /** An endpoint gives no sign of life. */
  absent(): void {
    this.unreachable ||= this.#silent;
  }
}
