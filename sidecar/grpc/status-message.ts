/** The `grpc-message` header: percent-encoded UTF-8 (gRPC over HTTP/2, "Status-Message"), bounded in both directions. */

/** Longer messages are cut at a character's end. */
export const MAX_MESSAGE_BYTES = 1024;

const PERCENT = 0x25;
const SPACE = 0x20;
const HEX = '0123456789ABCDEF';
const encoder = new TextEncoder();

/**
 * The header's value for `message`, at most 1,024 bytes long.
 *
 * It also escapes spaces at either end, which gRPC does not require: HTTP/2 allows none there (RFC 9113 section 8.2.1).
 */
export function encodeStatusMessage(message: string): string {
  if (message.length <= MAX_MESSAGE_BYTES && isPlain(message)) return message;
  const lastIndex = message.length - 1;
  let encoded = '';
  let index = 0;
  // By code point, so that the cut falls between characters; a lone surrogate becomes U+FFFD.
  for (const character of message) {
    const code = character.charCodeAt(0);
    const atEnd = index === 0 || index === lastIndex;
    let piece = character;
    if (character.length > 1 || !isUnescaped(code) || (code === SPACE && atEnd)) {
      piece = '';
      for (const byte of encoder.encode(character)) piece += `%${HEX[byte >> 4]}${HEX[byte & 15]}`;
    }
    if (encoded.length + piece.length > MAX_MESSAGE_BYTES) break;
    encoded += piece;
    index += character.length;
  }
  // The cut may have left a space at the end.
  return encoded.trimEnd();
}

/**
 * Decodes a `grpc-message` value. Never fails: a `%` that begins no escape stays, invalid UTF-8 becomes U+FFFD, and
 * text after the first 1,024 decoded bytes is dropped.
 */
export function decodeStatusMessage(value: string): string {
  if (value.length <= MAX_MESSAGE_BYTES && isPlain(value)) return value;
  const bytes = new Uint8Array(MAX_MESSAGE_BYTES);
  let size = 0;
  for (let i = 0; i < value.length && size < MAX_MESSAGE_BYTES; i++) {
    const code = value.charCodeAt(i);
    const high = code === PERCENT ? hexDigit(value.charCodeAt(i + 1)) : -1;
    const low = high < 0 ? -1 : hexDigit(value.charCodeAt(i + 2));
    if (low >= 0) {
      bytes[size++] = (high << 4) | low;
      i += 2;
    } else {
      // Header values are read as Latin-1, so an unescaped character is one byte of the sender.
      bytes[size++] = code;
    }
  }
  // `stream` holds back a character that the bound has split; it is dropped with the decoder.
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes.subarray(0, size), {
    stream: size === MAX_MESSAGE_BYTES,
  });
}

function isPlain(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (!isUnescaped(text.charCodeAt(i))) return false;
  return text.charCodeAt(0) !== SPACE && text.charCodeAt(text.length - 1) !== SPACE;
}

/** Printable ASCII except the percent sign. */
function isUnescaped(code: number): boolean {
  return code >= SPACE && code <= 0x7e && code !== PERCENT;
}

/** The digit's value; -1 for anything else, NaN included. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
