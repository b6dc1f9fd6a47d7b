/** Writes the primitive types of RFC 7541 §5. */

/** From this length on a call into the runtime is faster than a loop over the characters. */
const LONG_STRING = 24;

/** The longest integer: its prefix and five more bytes (values below 2^35). */
export const MAX_INTEGER_BYTES = 6;

/**
 * Writes an integer (§5.1) with `flags` in the bits before its prefix; `prefix` is the prefix with all bits set. Returns the
 * new offset.
 */
export function writeInteger(
  out: Uint8Array,
  offset: number,
  flags: number,
  prefix: number,
  value: number,
): number {
  if (value < prefix) {
    out[offset] = flags | value;
    return offset + 1;
  }
  out[offset++] = flags | prefix;
  let rest = value - prefix;
  while (rest >= 0x80) {
    out[offset++] = (rest & 0x7f) | 0x80;
    rest = Math.floor(rest / 128);
  }
  out[offset++] = rest;
  return offset;
}

/** The bytes that writeInteger writes. */
export function integerSize(prefix: number, value: number): number {
  let bytes = 1;
  if (value < prefix) return bytes;
  for (let rest = value - prefix; rest >= 0x80; rest = Math.floor(rest / 128)) bytes++;
  return bytes + 1;
}

/**
 * Writes a string literal (§5.2), one byte a character, without Huffman coding (`huffman.ts` says why). Returns the new
 * offset.
 */
export function writeString(out: Buffer, offset: number, value: string): number {
  const length = value.length;
  let at = writeInteger(out, offset, 0, 0x7f, length);
  if (length < LONG_STRING) {
    for (let i = 0; i < length; i++) out[at++] = value.charCodeAt(i);
    return at;
  }
  out.write(value, at, length, 'latin1');
  return at + length;
}

/** The bytes that writeString writes. */
export function stringSize(value: string): number {
  return integerSize(0x7f, value.length) + value.length;
}
