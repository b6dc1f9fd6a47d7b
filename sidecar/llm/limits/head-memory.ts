/**
 * Bounds the heads of the requests that run: an agent may send 64 KiB of fields with each. Usual heads always pass; the
 * number of requests bounds them.
 */

/** Of large heads together, each field counted with its place among the others. */
export const MAX_LARGE_HEADS_BYTES = 25_165_824;
/** A head up to this size is a usual one. */
export const USUAL_HEAD_BYTES = 8_192;
/** Two strings and their places. */
const FIELD_COST_BYTES = 96;

export class HeadMemory {
  private bytes = 0;

  /**
   * @param rawHeaders names and values in turn, as Node has them
   * @returns what `release` takes back, 0 for a usual head; -1 when there is no room
   */
  hold(rawHeaders: readonly string[]): number {
    let cost = (rawHeaders.length / 2) * FIELD_COST_BYTES;
    for (const text of rawHeaders) cost += text.length;
    if (cost <= USUAL_HEAD_BYTES) return 0;
    if (this.bytes + cost > MAX_LARGE_HEADS_BYTES) return -1;
    this.bytes += cost;
    return cost;
  }

  release(cost: number): void {
    this.bytes -= cost;
  }
}
