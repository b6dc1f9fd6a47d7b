/**
 * Writes protobuf into one growing buffer (protobuf.dev, "Encoding"). Where the length of a message is unknown in
 * advance, the writer reserves a fixed number of bytes and fills it in later: a varint may have more bytes than it
 * needs, and moving the written bytes would cost more.
 */

/** Bytes reserved for the length of a message within a span: up to 2 MiB. */
const LENGTH_BYTES = 3;

const MAX_LOOP_CHARS = 96;
const MAX_LOOP_BYTES = 64;

export class ProtobufWriter {
  buffer: Buffer;
  at = 0;

  constructor(initialBytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(initialBytes);
  }

  /** Makes room for this many more bytes; the methods below write without a check. */
  reserve(bytes: number): void {
    const needed = this.at + bytes;
    if (needed <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.buffer.length * 2));
    this.buffer.copy(larger, 0, 0, this.at);
    this.buffer = larger;
  }

  byte(value: number): void {
    this.buffer[this.at++] = value;
  }

  /** A whole number from 0 to 2^53. */
  varint(value: number): void {
    const { buffer } = this;
    let rest = value;
    while (rest >= 0x80) {
      buffer[this.at++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    buffer[this.at++] = rest;
  }

  fixed32(value: number): void {
    const { buffer, at } = this;
    buffer[at] = value;
    buffer[at + 1] = value >>> 8;
    buffer[at + 2] = value >>> 16;
    buffer[at + 3] = value >>> 24;
    this.at = at + 4;
  }

  /** 32 bits, the most significant byte first, as in ids. */
  bigEndian32(value: number): void {
    const { buffer, at } = this;
    buffer[at] = value >>> 24;
    buffer[at + 1] = value >>> 16;
    buffer[at + 2] = value >>> 8;
    buffer[at + 3] = value;
    this.at = at + 4;
  }

  /** A whole number of int64's range that a double represents, as ten bytes at most. */
  int64(value: number): void {
    if (value >= 0) {
      this.varint(value);
      return;
    }
    let rest = BigInt.asUintN(64, BigInt(value));
    while (rest >= 0x80n) {
      this.byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.byte(Number(rest));
  }

  double(value: number): void {
    this.at = this.buffer.writeDoubleLE(value, this.at);
  }

  /**
   * Milliseconds since 1970, as fixed64 nanoseconds. The result is exact, though a double holds only 2^53 nanoseconds,
   * 104 days.
   */
  unixNano(epochMs: number): void {
    const whole = Math.floor(epochMs);
    const high = Math.floor(whole / 0x10000);
    const low = whole - high * 0x10000;
    // whole * 1e6 = high * 1e6 * 2^16 + low * 1e6, and each of the three products is exact.
    const scaled = high * 1_000_000;
    const upper = Math.floor(scaled / 0x10000);
    const lower =
      (scaled - upper * 0x10000) * 0x10000 + low * 1_000_000 + Math.floor((epochMs - whole) * 1e6);
    const carry = Math.floor(lower / 0x1_0000_0000);
    this.fixed32(lower - carry * 0x1_0000_0000);
    this.fixed32(upper + carry);
  }

  raw(bytes: Buffer): void {
    const { length } = bytes;
    if (length > MAX_LOOP_BYTES) {
      this.at += bytes.copy(this.buffer, this.at);
      return;
    }
    // For short strings a loop beats the call into native code.
    const { buffer, at } = this;
    for (let i = 0; i < length; i++) buffer[at + i] = bytes[i]!;
    this.at = at + length;
  }

  /** Hexadecimal digits as the bytes they stand for. */
  hex(text: string): void {
    const { buffer } = this;
    let at = this.at;
    for (let i = 0; i < text.length; i += 2) {
      buffer[at++] = (digit(text.charCodeAt(i)) << 4) | digit(text.charCodeAt(i + 1));
    }
    this.at = at;
  }

  /** A length-prefixed string. `bytes` is the result of `utf8Length`. */
  text(text: string, bytes: number): void {
    this.varint(bytes);
    if (bytes === text.length && bytes <= MAX_LOOP_CHARS) {
      const { buffer } = this;
      let at = this.at;
      for (let i = 0; i < bytes; i++) buffer[at++] = text.charCodeAt(i);
      this.at = at;
    } else {
      this.at += this.buffer.write(text, this.at, 'utf8');
    }
  }

  /** Reserves room for a length; pass the returned place to `endMessage`, which fills it in. */
  beginMessage(): number {
    this.at += LENGTH_BYTES;
    return this.at;
  }

  endMessage(start: number): void {
    writePaddedVarint(this.buffer, start - LENGTH_BYTES, this.at - start, LENGTH_BYTES);
  }
}

/** The length of a string in UTF-8 bytes. */
export function utf8Length(text: string): number {
  if (text.length > MAX_LOOP_CHARS) return Buffer.byteLength(text, 'utf8');
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) return Buffer.byteLength(text, 'utf8');
  }
  return text.length;
}

/** The length of a `varint` in bytes. */
export function varintLength(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

/** A varint of exactly this many bytes, padded with zeros at its high end. */
export function writePaddedVarint(buffer: Buffer, at: number, value: number, bytes: number): void {
  let rest = value;
  for (let i = 0; i < bytes - 1; i++) {
    buffer[at + i] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  buffer[at + bytes - 1] = rest;
}

function digit(code: number): number {
  return code < 58 ? code - 48 : code - 87;
}
