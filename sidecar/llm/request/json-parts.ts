/**
 * Counts the parts of messages in a request (pictures, sounds, files), and the bytes of their data: of each part, its
 * longest string. Pure.
 */
import { MAX_PART_DEPTH, NO_LEVELS } from './data-parts.ts';

export class JsonParts {
  /** The parts of the whole request, once it has ended. */
  count = 0;
  bytes = 0;
  private readonly counts = [...NO_LEVELS];
  private readonly sums = [...NO_LEVELS];
  private readonly longest = [...NO_LEVELS];
  private readonly isPart = [...NO_LEVELS];

  /** An object or an array begins. */
  open(depth: number): void {
    if (depth > MAX_PART_DEPTH) return;
    this.counts[depth] = 0;
    this.sums[depth] = 0;
    this.longest[depth] = 0;
    this.isPart[depth] = 0;
  }

  /** The object at this depth is a part. */
  mark(depth: number): void {
    if (depth <= MAX_PART_DEPTH) this.isPart[depth] = 1;
  }

  /** A string has ended. */
  string(depth: number, bytes: number): void {
    const holder = Math.min(depth, MAX_PART_DEPTH);
    this.longest[holder] = Math.max(this.longest[holder]!, bytes);
  }

  close(depth: number): void {
    if (depth === 1) {
      this.count = this.counts[1]!;
      this.bytes = this.sums[1]!;
      return;
    }
    if (depth > MAX_PART_DEPTH) return;
    const outer = depth - 1;
    const isPart = this.isPart[depth] === 1;
    this.counts[outer]! += isPart ? 1 : this.counts[depth]!;
    this.sums[outer]! += isPart ? this.longest[depth]! : this.sums[depth]!;
    this.longest[outer] = Math.max(this.longest[outer]!, this.longest[depth]!);
  }
}
