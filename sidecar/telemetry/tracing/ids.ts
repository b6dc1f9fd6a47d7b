import { randomFillSync } from 'node:crypto';

const HEX_CODES = Buffer.from('0123456789abcdef', 'latin1');

/**
 * Makes trace and span ids. They need to be unlike each other, not secret: xoshiro128** (Blackman and Vigna), seeded
 * from the system's randomness, costs a few shifts where `crypto` costs a call into native code.
 */
export class IdSource {
  /** The id that `next` has drawn, as four numbers of 32 bits. */
  readonly words = new Int32Array(4);
  private readonly state = new Int32Array(4);
  private readonly text = Buffer.allocUnsafeSlow(32);

  constructor(seed?: Int32Array) {
    if (seed === undefined) randomFillSync(this.state);
    else this.state.set(seed.subarray(0, 4));
    // All zeros is the one state it would never leave.
    this.state[0]! |= 1;
  }

  private random(): number {
    const { state } = this;
    const scrambled = Math.imul(state[1]!, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9);
    const shifted = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= shifted;
    state[3] = (state[3]! << 11) | (state[3]! >>> 21);
    return result;
  }

  /** Draws a trace id into `words`, which `traceId` then writes out: the sampler decides between the two. */
  draw(): void {
    const { words } = this;
    for (let i = 0; i < 4; i++) words[i] = this.random();
    // Not all zeros (W3C Trace Context §3.2.2.3).
    words[3]! |= 1;
  }

  /** The trace id that was drawn last. */
  traceId(): string {
    const { words, text } = this;
    for (let i = 0; i < 4; i++) writeHex(text, i * 8, words[i]!);
    return text.toString('latin1', 0, 32);
  }

  spanId(): string {
    const { text } = this;
    writeHex(text, 0, this.random());
    writeHex(text, 8, this.random() | 1);
    return text.toString('latin1', 0, 16);
  }
}

function writeHex(out: Buffer, at: number, word: number): void {
  for (let i = 0; i < 8; i++) out[at + i] = HEX_CODES[(word >>> (28 - i * 4)) & 15]!;
}
