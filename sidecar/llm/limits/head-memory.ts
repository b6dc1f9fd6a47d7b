/**
 * Bounds the heads of the requests that run: an agent may send 64 KiB of fields with each. Usual heads always pass; the
 * number of requests bounds them.
 */
import { rawHeadCost } from '../shared/head-cost.ts';

/** The most that all large heads take together, by `shared/head-cost.ts`. */
export const MAX_LARGE_HEADS_BYTES = 25_165_824;
/** A head up to this size is a usual one. */
export const USUAL_HEAD_BYTES = 8_192;

export class HeadMemory {
  private bytes = 0;

  /**
   * Counts the head of a request.
   *
   * @param rawHeaders names and values in turn, as Node has them
   * @returns the bytes for `release`, 0 for a usual head; -1 when there is no room
   */
  hold(rawHeaders: readonly string[]): number {
    const cost = rawHeadCost(rawHeaders);
    if (cost <= USUAL_HEAD_BYTES) return 0;
    if (this.bytes + cost > MAX_LARGE_HEADS_BYTES) return -1;
    this.bytes += cost;
    return cost;
  }

  release(cost: number): void {
    this.bytes -= cost;
  }
}
