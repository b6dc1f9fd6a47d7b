/**
 * Takes the print of a request's body while it comes: its digest, by which an equal request is found again, and a mark for each
 * block, by which the first difference to another body is found. The print holds nothing of the text itself.
 */
import { createHash, type Hash } from 'node:crypto';

/** A mark stands for a block. Blocks grow with their distance from the beginning, where a prompt differs most often. */
const TIERS = [
  { blockBytes: 32, untilByte: 16_384 },
  { blockBytes: 256, untilByte: 65_536 },
  { blockBytes: 4_096, untilByte: 1_048_576 },
] as const;
const MARK_BYTES = 4;
/** FNV-1a. It finds differences and keeps no secret: where the journal is sealed, so are the marks. */
const FNV_SEED = 0x811c9dc5;
const FNV_PRIME = 0x01000193;

export interface Print {
  /** SHA-256 of the body. */
  readonly digest: Buffer;
  readonly bytes: number;
  /** Four bytes for each block, of the first MiB. */
  readonly marks: Buffer;
}

export class BodyPrint {
  private readonly hash: Hash = createHash('sha256');
  private readonly marks: number[] = [];
  private bytes = 0;
  private mark = FNV_SEED;
  private tier = 0;
  private blockEnd: number = TIERS[0].blockBytes;

  push(part: Buffer): void {
    this.hash.update(part);
    let at = 0;
    while (at < part.length && this.tier < TIERS.length) {
      const end = Math.min(part.length, at + this.blockEnd - this.bytes);
      let { mark } = this;
      this.bytes += end - at;
      for (; at < end; at++) mark = Math.imul(mark ^ part[at]!, FNV_PRIME);
      this.mark = mark;
      if (this.bytes === this.blockEnd) this.endBlock();
    }
    this.bytes += part.length - at;
  }

  private endBlock(): void {
    this.marks.push(this.mark);
    this.mark = FNV_SEED;
    if (this.bytes >= TIERS[this.tier]!.untilByte) this.tier++;
    this.blockEnd += TIERS[this.tier]?.blockBytes ?? 0;
  }

  end(): Print {
    const { bytes, marks } = this;
    const isOpen = this.tier < TIERS.length && bytes > (marks.length === 0 ? 0 : startOf(marks.length));
    if (isOpen) marks.push(this.mark);
    const text = Buffer.allocUnsafe(marks.length * MARK_BYTES);
    for (const [index, mark] of marks.entries()) text.writeInt32LE(mark, index * MARK_BYTES);
    return { digest: this.hash.digest(), bytes, marks: text };
  }
}

/** The first byte of a block. */
function startOf(block: number): number {
  let start = 0;
  let left = block;
  for (const { blockBytes, untilByte } of TIERS) {
    const blocks = (untilByte - start) / blockBytes;
    if (left <= blocks) return start + left * blockBytes;
    left -= blocks;
    start = untilByte;
  }
  return start;
}

/** Where two bodies differ first: the bytes of the block, in both. Undefined where their prints are equal. */
export interface Difference {
  readonly fromByte: number;
  /** Not included. */
  readonly toByte: number;
}

export function differenceOf(
  one: Omit<Print, 'digest'>,
  other: Omit<Print, 'digest'>,
): Difference | undefined {
  const blocks = Math.min(one.marks.length, other.marks.length) / MARK_BYTES;
  for (let block = 0; block < blocks; block++) {
    const at = block * MARK_BYTES;
    if (one.marks.readInt32LE(at) !== other.marks.readInt32LE(at))
      return { fromByte: startOf(block), toByte: startOf(block + 1) };
  }
  if (one.marks.length === other.marks.length && one.bytes === other.bytes) return undefined;
  return { fromByte: startOf(blocks), toByte: startOf(blocks + 1) };
}
