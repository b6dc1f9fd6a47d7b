/**
 * Limits how many of a cluster's endpoints the balancer draws from: all of up to 32, and of more as many as the calls in
 * flight need, from an offset that is random for each sidecar (the idea is Finagle's aperture).
 *
 * A hundred sidecars that each kept connections to a thousand endpoints would keep a hundred thousand, nearly all of them
 * cold when their next call comes, and no endpoint would get enough calls to distinguish its failures from chance.
 *
 *     both draws busy ──▶ one wider          else ──▶ 1/16 narrower
 *
 * The width is stable when a draw is busy once in four: at four endpoints for each call in flight. So nearly every draw
 * finds a free endpoint, and a sidecar with many calls uses all endpoints.
 */
const APERTURE_MIN = 32;
const NARROWER = 1 / 16;

export class Aperture {
  private grownWidth = APERTURE_MIN;
  /** The offset as a share of all endpoints: it stays about the same when endpoints are added or removed. */
  private firstIndex = -1;

  /** Returns how many of `count` endpoints to draw from. */
  width(count: number): number {
    return count <= APERTURE_MIN ? count : Math.min(Math.ceil(this.grownWidth), count);
  }

  /** Returns the index of the first of them; they may wrap around to 0. */
  from(count: number, random: () => number): number {
    if (count <= APERTURE_MIN) return 0;
    if (this.firstIndex < 0) this.firstIndex = random();
    return Math.floor(this.firstIndex * count);
  }

  /** Adjusts the width after a draw of two. `busy`: not even the better one was free. */
  chosen(busy: boolean, count: number): void {
    if (count <= APERTURE_MIN) return;
    const width = busy ? this.grownWidth + 1 : this.grownWidth - NARROWER;
    this.grownWidth = Math.min(Math.max(width, APERTURE_MIN), count);
  }
}
