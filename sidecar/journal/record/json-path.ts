/** Names the place of a byte in a JSON text: `messages[1].content`. Pure. */

/** Deeper and longer paths end with `…`. */
const MAX_DEPTH = 12;
const MAX_KEY = 32;

interface Level {
  readonly isArray: boolean;
  index: number;
  key: string;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/**
 * Returns the path of the value that the byte at `offset` belongs to; '' at the top, or where the text is no JSON. Keys that
 * are no names are left out: they may hold what users say.
 */
export function jsonPathAt(text: Buffer, offset: number): string {
  const levels: Level[] = [];
  const end = Math.min(offset, text.length);
  let at = 0;
  while (at < end) {
    const byte = text[at]!;
    const level = levels.at(-1);
    if (byte === QUOTE) {
      const from = at + 1;
      at = endOfString(text, from);
      if (level?.isArray === false && isKey(text, at + 1)) level.key = nameIn(text, from, at);
    } else if (byte === 0x7b || byte === 0x5b) levels.push({ isArray: byte === 0x5b, index: 0, key: '' });
    else if (byte === 0x7d || byte === 0x5d) levels.pop();
    else if (byte === 0x2c && level?.isArray) level.index++;
    at++;
  }
  return pathOf(levels);
}

function endOfString(text: Buffer, from: number): number {
  let at = from;
  while (at < text.length && text[at] !== QUOTE) at += text[at] === BACKSLASH ? 2 : 1;
  return at;
}

/** Whether a colon follows: the string was a key. */
function isKey(text: Buffer, from: number): boolean {
  let at = from;
  while (at < text.length && text[at]! <= 0x20) at++;
  return text[at] === 0x3a;
}

function nameIn(text: Buffer, from: number, to: number): string {
  const name = to - from > MAX_KEY ? '' : text.toString('latin1', from, to);
  return /^[A-Za-z_][A-Za-z0-9_-]*$/.test(name) ? name : '*';
}

function pathOf(levels: readonly Level[]): string {
  let path = '';
  for (const { isArray, index, key } of levels.slice(0, MAX_DEPTH)) {
    if (isArray) path += `[${index}]`;
    else if (key !== '') path += path === '' ? key : `.${key}`;
  }
  return levels.length > MAX_DEPTH ? `${path}…` : path;
}
