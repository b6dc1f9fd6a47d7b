// Choices that a seed decides: the same seed gives the same choices in the same order.
import { seededRandom } from '../../support/seeded-random.ts';

export class Dice {
  private readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  /** A whole number from `least` to `most`, both included. */
  int(least: number, most: number): number {
    return least + Math.floor(this.random() * (most - least + 1));
  }

  /** A whole number from 0 to `most`: each size of magnitude is as likely as the next, so that most are small. */
  size(most: number): number {
    return Math.floor((most + 1) ** this.random()) - 1;
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.int(0, from.length - 1)]!;
  }

  weighted<T>(from: readonly (readonly [weight: number, value: T])[]): T {
    let left = this.random() * from.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, value] of from) {
      left -= weight;
      if (left < 0) return value;
    }
    return from.at(-1)![1];
  }

  bytes(count: number): Buffer {
    const bytes = Buffer.alloc(count);
    for (let at = 0; at < count; at++) bytes[at] = this.int(0, 255);
    return bytes;
  }

  /** The seed of further dice. */
  seed(): number {
    return this.int(0, 0xffff_ffff);
  }

  /** What was right, with one to four faults in it: bits, bytes, pieces. */
  damage(bytes: Buffer): Buffer {
    let damaged = Buffer.from(bytes);
    for (let faults = this.int(1, 4); faults > 0 && damaged.length > 0; faults--) {
      const at = this.int(0, damaged.length - 1);
      const end = Math.min(damaged.length, at + 1 + this.size(200));
      const fault = this.pick(['bit', 'byte', 'cut', 'lose', 'twice', 'insert'] as const);
      if (fault === 'bit') damaged[at]! ^= 1 << this.int(0, 7);
      else if (fault === 'byte') damaged[at] = this.pick([0, 1, 0x7f, 0x80, 0xff, this.int(0, 255)]);
      else if (fault === 'cut') damaged = damaged.subarray(0, at);
      else if (fault === 'lose') damaged = Buffer.concat([damaged.subarray(0, at), damaged.subarray(end)]);
      else if (fault === 'twice') damaged = Buffer.concat([damaged.subarray(0, end), damaged.subarray(at)]);
      else
        damaged = Buffer.concat([damaged.subarray(0, at), this.bytes(this.size(64)), damaged.subarray(at)]);
    }
    return damaged;
  }
}

/** The seed of the `index`th part of what `seed` stands for. */
export function partSeed(seed: number, index: number): number {
  let bits = Math.imul(seed ^ Math.imul(index + 1, 0x9e3779b1), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 15), 0xc2b2ae35);
  return (bits ^ (bits >>> 13)) >>> 0;
}
