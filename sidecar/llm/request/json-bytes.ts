/** Names the bytes of JSON's structure (RFC 8259, section 2). */

export const QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const COMMA = 0x2c;
export const COLON = 0x3a;
export const OPEN_OBJECT = 0x7b;
export const CLOSE_OBJECT = 0x7d;
export const OPEN_ARRAY = 0x5b;
export const CLOSE_ARRAY = 0x5d;
export const BYTE_ORDER_MARK = [0xef, 0xbb, 0xbf];

/** By byte: 1 for the bytes of numbers and literals. */
export const IS_SCALAR = new Uint8Array(256);
for (const character of '0123456789+-.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ')
  IS_SCALAR[character.charCodeAt(0)] = 1;

/** By byte: 1 for the bytes that begin a number or a literal. */
export const BEGINS_SCALAR = new Uint8Array(256);
for (const character of '0123456789-tfn') BEGINS_SCALAR[character.charCodeAt(0)] = 1;

export function isWhiteSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Whether the bytes are the key `type`. */
export function isType(piece: Buffer, start: number, end: number): boolean {
  return (
    end - start === 4 &&
    piece[start] === 0x74 &&
    piece[start + 1] === 0x79 &&
    piece[start + 2] === 0x70 &&
    piece[start + 3] === 0x65
  );
}
