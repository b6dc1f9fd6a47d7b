/**
 * Reads a JSON text of any size in bounded memory: keeps it as it is, but for the insides of long strings (pictures,
 * sounds, embeddings), of which only the beginning is kept. What is kept is JSON again. Pure.
 */

import { type HeldBytes, heldAlone } from './held-answers.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
/** `\uXXXX`: what follows the `u`. */
const HEX_DIGITS = 4;

/** Kept of a string: ids, names and words for errors are shorter. */
const MAX_STRING_BYTES = 1_024;
/** Kept in all: a text that has more beside its long strings is not read. */
const MAX_KEPT_BYTES = 262_144;
const FIRST_BYTES = 4_096;

export class JsonDigest {
  private kept = Buffer.allocUnsafe(FIRST_BYTES);
  private length = 0;
  private inString = false;
  /** Kept of the string that is being read. */
  private stringBytes = 0;
  /** Bytes that belong to an escape: -1 when the next one says how many. */
  private escapeLeft = 0;
  private keepsEscape = false;
  private isFull = false;
  private readonly held: HeldBytes;
  /** Of the bytes kept, beside the first. */
  private counted = 0;

  /** @param held counts what is kept; without room for more the text is not read */
  constructor(held = heldAlone()) {
    this.held = held;
  }

  push(bytes: Buffer): void {
    let quote = bytes.indexOf(QUOTE);
    let backslash = bytes.indexOf(BACKSLASH);
    let at = 0;
    while (at < bytes.length && !this.isFull) {
      if (this.escapeLeft !== 0) {
        this.takeEscape(bytes[at]!);
        at++;
        continue;
      }
      if (quote >= 0 && quote < at) quote = bytes.indexOf(QUOTE, at);
      const end = quote < 0 ? bytes.length : quote;
      if (!this.inString) {
        this.keep(bytes, at, Math.min(end + 1, bytes.length));
        this.inString = end < bytes.length;
        this.stringBytes = 0;
        at = end + 1;
        continue;
      }
      if (backslash >= 0 && backslash < at) backslash = bytes.indexOf(BACKSLASH, at);
      const stop = backslash < 0 ? end : Math.min(end, backslash);
      const room = Math.max(0, MAX_STRING_BYTES - this.stringBytes);
      this.keep(bytes, at, Math.min(stop, at + room));
      this.stringBytes += stop - at;
      at = stop + 1;
      if (stop === bytes.length) return;
      if (stop === backslash) {
        this.keepsEscape = this.stringBytes < MAX_STRING_BYTES;
        if (this.keepsEscape) this.keep(bytes, stop, at);
        this.escapeLeft = -1;
      } else {
        this.keep(bytes, stop, at);
        this.inString = false;
      }
    }
  }

  /** The text with its long strings shortened; undefined when it has too much beside them. */
  text(): string | undefined {
    return this.isFull ? undefined : this.kept.toString('utf8', 0, this.length);
  }

  /** Nothing of it is kept any more. */
  release(): void {
    this.held.remove(this.counted);
    this.counted = 0;
    this.kept = Buffer.alloc(0);
    this.length = 0;
  }

  /** An escape is kept whole or not at all: a half one would be no JSON. */
  private takeEscape(byte: number): void {
    if (this.escapeLeft > 0) this.escapeLeft--;
    else this.escapeLeft = byte === LETTER_U ? HEX_DIGITS : 0;
    this.stringBytes++;
    if (this.keepsEscape) this.keep(Buffer.of(byte), 0, 1);
  }

  private keep(bytes: Buffer, start: number, end: number): void {
    const length = this.length + end - start;
    const moreBytes = length > this.kept.length ? 2 * length - this.kept.length : 0;
    if (length > MAX_KEPT_BYTES || !this.held.add(moreBytes)) {
      this.isFull = true;
      this.release();
      return;
    }
    this.counted += moreBytes;
    if (moreBytes > 0) {
      const larger = Buffer.allocUnsafe(2 * length);
      this.kept.copy(larger, 0, 0, this.length);
      this.kept = larger;
    }
    bytes.copy(this.kept, this.length, start, end);
    this.length = length;
  }
}
