/** Generates trace and span ids, and writes and reads their hexadecimal form. */
import { randomFillSync } from 'node:crypto';

const HEX_CODES = Buffer.from('0123456789abcdef', 'latin1');

/**
 * Generates trace and span ids. They need to be unique, not secret: xoshiro128** (Blackman and Vigna), seeded from the
 * system's randomness, costs a few shifts where `crypto` costs a call into native code.
 *
 * An id stays a set of 32-bit numbers until a reader needs its text: formatting costs more than generating.
 */
export class IdSource {
  /** The trace id that the last `draw` generated. */
  readonly words = new Int32Array(4);
  private a: number;
  private b: number;
  private c: number;
  private d: number;
  private readonly text = Buffer.allocUnsafeSlow(32);

  constructor(seed?: Int32Array) {
    const state = seed ?? randomFillSync(new Int32Array(4));
    // All zeros is the one state that the generator never leaves.
    this.a = state[0]! | 1;
    this.b = state[1]!;
    this.c = state[2]!;
    this.d = state[3]!;
  }

  /** 32 random bits. */
  next(): number {
    const { b } = this;
    const scrambled = Math.imul(b, 5);
    const c = this.c ^ this.a;
    const d = this.d ^ b;
    this.b = b ^ c;
    this.a ^= d;
    this.c = c ^ (b << 9);
    this.d = (d << 11) | (d >>> 21);
    return Math.imul((scrambled << 7) | (scrambled >>> 25), 9);
  }

  /** Half of an id, never zero: an id of zeros is invalid (W3C Trace Context §3.2.2.3, §3.2.2.4). */
  nextOdd(): number {
    return this.next() | 1;
  }

  /**
   * Generates a trace id into `words`, which `traceId` formats.
   *
   * @param folded the combination of the id's four words (`sampler.ts`); the sampler decides on it before the rest is
   * generated
   */
  draw(folded: number): void {
    const { words } = this;
    // The last 56 bits are all random, as the `random` flag promises.
    const [first, second, third] = [this.nextOdd(), this.next(), this.next()];
    words[0] = first;
    words[1] = second;
    words[2] = third;
    words[3] = folded ^ first ^ second ^ third;
  }

  /** The text of the trace id that the last `draw` generated. */
  traceId(): string {
    const { words, text } = this;
    for (let i = 0; i < 4; i++) writeHex(text, i * 8, words[i]!);
    return text.toString('latin1', 0, 32);
  }
}

/** Writes 32 bits as eight lower-case hexadecimal digits. */
export function writeHex(out: Buffer, at: number, word: number): void {
  out[at] = HEX_CODES[word >>> 28]!;
  out[at + 1] = HEX_CODES[(word >>> 24) & 15]!;
  out[at + 2] = HEX_CODES[(word >>> 20) & 15]!;
  out[at + 3] = HEX_CODES[(word >>> 16) & 15]!;
  out[at + 4] = HEX_CODES[(word >>> 12) & 15]!;
  out[at + 5] = HEX_CODES[(word >>> 8) & 15]!;
  out[at + 6] = HEX_CODES[(word >>> 4) & 15]!;
  out[at + 7] = HEX_CODES[word & 15]!;
}

const scratch = Buffer.allocUnsafeSlow(16);

/** A span id as text. */
export function spanIdText(high: number, low: number): string {
  writeHex(scratch, 0, high);
  writeHex(scratch, 8, low);
  return scratch.toString('latin1', 0, 16);
}

/** 32 bits from eight lower-case hexadecimal digits. */
export function readHex(text: string, at: number): number {
  let word = 0;
  for (let i = at; i < at + 8; i++) {
    const code = text.charCodeAt(i);
    word = (word << 4) | (code < 58 ? code - 48 : code - 87);
  }
  return word;
}
