/**
 * Reads a JSON text of any size in bounded memory: keeps it as it is, but only the beginning of long strings (pictures,
 * sounds, embeddings). The result is JSON again. Pure.
 */

import { type HeldBytes, heldAlone } from './held-answers.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
/** The digits after the `u` of `\uXXXX`. */
const HEX_DIGITS = 4;

/** How much of a string is kept: ids, names and words for errors are shorter. */
const MAX_STRING_BYTES = 1_024;
/** How much of a text is kept: the digest does not read a text with more beside its long strings. */
const MAX_KEPT_BYTES = 262_144;
const FIRST_BYTES = 4_096;

export class JsonDigest {
  private kept = Buffer.allocUnsafe(FIRST_BYTES);
  private length = 0;
  private inString = false;
  /** How much of the present string was kept. */
  private stringBytes = 0;
  /** How many bytes of an escape follow: -1 when the next byte says how many. */
  private escapeLeft = 0;
  private keepsEscape = false;
  private isFull = false;
  private readonly held: HeldBytes;
  /** The counted bytes: those beyond the first buffer. */
  private counted = 0;

  /** @param held counts what is kept; without room, the digest does not read the text */
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

  /** Returns the text with long strings shortened; undefined when it has too much beside them. */
  text(): string | undefined {
    return this.isFull ? undefined : this.kept.toString('utf8', 0, this.length);
  }

  /** Frees what is kept. */
  release(): void {
    this.held.remove(this.counted);
    this.counted = 0;
    this.kept = Buffer.alloc(0);
    this.length = 0;
  }

  /** Keeps an escape whole or not at all: half of one would break the JSON. */
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
