/**
 * Changes one top-level value of a JSON object in its bytes, and leaves every other byte as it was: parsing and
 * writing again would lose long numbers, duplicate keys and white space.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN = new Set([0x7b, 0x5b]);
const CLOSE = new Set([0x7d, 0x5d]);
const COMMA = 0x2c;
const COLON = 0x3a;

/** Where a value stands: from its first byte to after its last. */
interface Range {
  readonly start: number;
  readonly end: number;
}

/**
 * The body with `json` in the place of the value of a top-level key, or with the pair added in front when there is no
 * such key. The body must be the text of a JSON object.
 *
 * @param json the new value, as JSON
 */
export function withTopLevel(body: Buffer, key: string, json: string): Buffer {
  const ranges = topLevelValues(body, key);
  const last = ranges.at(-1);
  if (last === undefined) {
    const open = body.indexOf('{');
    const rest = body.subarray(open + 1);
    const comma = /^\s*\}/.test(rest.subarray(0, 64).toString('latin1')) ? '' : ',';
    return Buffer.concat([
      body.subarray(0, open + 1),
      Buffer.from(`${JSON.stringify(key)}:${json}${comma}`),
      rest,
    ]);
  }
  // Of a key that is there twice some readers take the first and some the last.
  const parts: Buffer[] = [];
  let at = 0;
  for (const { start, end } of ranges) {
    parts.push(body.subarray(at, start), Buffer.from(json));
    at = end;
  }
  parts.push(body.subarray(at));
  return Buffer.concat(parts);
}

/** Every value that the key has at the top level. */
function topLevelValues(body: Buffer, key: string): Range[] {
  const found: Range[] = [];
  let depth = 0;
  let name: string | undefined;
  let valueStart = -1;
  let stringStart = -1;
  const endValue = (end: number): void => {
    if (valueStart >= 0 && name === key) found.push({ start: valueStart, end: trimmedEnd(body, end) });
    valueStart = -1;
    name = undefined;
  };
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]!;
    if (stringStart >= 0) {
      if (byte === BACKSLASH) at++;
      else if (byte === QUOTE) {
        if (depth === 1 && valueStart < 0) name = stringOf(body, stringStart, at + 1);
        stringStart = -1;
      }
      continue;
    }
    if (byte === QUOTE) stringStart = at;
    else if (OPEN.has(byte)) depth++;
    else if (CLOSE.has(byte)) {
      depth--;
      if (depth === 0) endValue(at);
    } else if (depth === 1 && byte === COMMA) endValue(at);
    else if (depth === 1 && byte === COLON && valueStart < 0) valueStart = nextStart(body, at + 1);
  }
  return found;
}

function stringOf(body: Buffer, start: number, end: number): string | undefined {
  try {
    return JSON.parse(body.toString('utf8', start, end)) as string;
  } catch {
    return undefined;
  }
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

function nextStart(body: Buffer, at: number): number {
  let start = at;
  while (isSpace(body[start])) start++;
  return start;
}

function trimmedEnd(body: Buffer, at: number): number {
  let end = at;
  while (isSpace(body[end - 1])) end--;
  return end;
}
