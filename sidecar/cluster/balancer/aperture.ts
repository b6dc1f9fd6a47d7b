/**
 * How many of a cluster's endpoints calls are drawn from: all of up to 32, and of more as many as the calls in flight
 * need, from a place that is random for each sidecar (the idea is Finagle's aperture).
 *
 * A hundred sidecars that each kept connections to a thousand endpoints would keep a hundred thousand, nearly all of them
 * cold when their next call comes, and no endpoint would be called often enough for its failures to be told from chance.
 *
 *     both draws busy ──▶ one wider          else ──▶ 1/16 narrower
 *
 * The two are even where a draw is busy once in four: at four endpoints for each call in flight. So one that is free is
 * found nearly always, and a sidecar with many calls uses all endpoints.
 */
const APERTURE_MIN = 32;
const NARROWER = 1 / 16;

export class Aperture {
  #width = APERTURE_MIN;
  /** Where it begins, as a share of all: it stays about there when endpoints come and go. */
  #from = -1;

  /** How many of `count` endpoints are drawn from. */
  width(count: number): number {
    return count <= APERTURE_MIN ? count : Math.min(Math.ceil(this.#width), count);
  }

  /** The index of the first of them; they may go on at 0. */
  from(count: number, random: () => number): number {
    if (count <= APERTURE_MIN) return 0;
    if (this.#from < 0) this.#from = random();
    return Math.floor(this.#from * count);
  }

  /** An endpoint was chosen of two in it. `busy`: not even the better one was free, or could be had. */
  chosen(busy: boolean, count: number): void {
    if (count <= APERTURE_MIN) return;
    const width = busy ? this.#width + 1 : this.#width - NARROWER;
    this.#width = Math.min(Math.max(width, APERTURE_MIN), count);
  }
}
