/**
 * Finds keys that two readers of one JSON text may read differently: repeated ones, of which some take the first and some the last,
 * and keys that differ from the protocol's in their case alone, which some take for them. Pure.
 *
 * The list of allowed tools goes by what the egress reads; a server that reads otherwise would run another tool.
 */

/** The keys of a message, and of the parameters of a call. */
const KNOWN: readonly ReadonlySet<string>[] = [
  new Set(['jsonrpc', 'id', 'method', 'params', 'result', 'error']),
  new Set(['name', 'arguments', '_meta', 'uri']),
];

const [OBJECT, OBJECT_END, ARRAY, ARRAY_END, QUOTE] = [0x7b, 0x7d, 0x5b, 0x5d, 0x22];

interface Level {
  readonly isObject: boolean;
  /** Folded keys so far; undefined where nobody looks at them. */
  readonly keys: Set<string> | undefined;
  /** 0 for a message, 1 for its parameters, -1 for everything else. */
  readonly rank: number;
  key: string;
}

/** Folded already. */
const PLAIN = /^[\x20-\x40\x5b-\x7e]*$/;

/** As readers fold that ignore case; some of them take `ſ` for `s`. */
function folded(key: string): string {
  if (PLAIN.test(key)) return key;
  return key.normalize('NFKC').toLowerCase();
}

/**
 * Returns the first such key of the messages and their parameters; undefined without one.
 *
 * @param text one message or an array of messages, which is valid JSON
 */
export function ambiguousKey(text: string): string | undefined {
  const levels: Level[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text.charCodeAt(at);
    if (char === OBJECT || char === ARRAY) levels.push(levelAt(char === OBJECT, levels));
    else if (char === OBJECT_END || char === ARRAY_END) levels.pop();
    else if (char === QUOTE) {
      const end = endOfString(text, at + 1);
      const level = levels.at(-1);
      if (level?.isObject === true && level.rank >= 0 && isKey(text, end + 1)) {
        const plain = text.slice(at + 1, end);
        const key = plain.includes('\\') ? (JSON.parse(text.slice(at, end + 1)) as string) : plain;
        if (isAmbiguous(level, key)) return key;
        level.key = key;
      }
      at = end;
    }
  }
  return undefined;
}

function levelAt(isObject: boolean, above: readonly Level[]): Level {
  const outer = above.at(-1);
  const isMessage = isObject && (outer === undefined || (above.length === 1 && !outer.isObject));
  const isParams = isObject && outer?.rank === 0 && outer.key === 'params';
  const rank = isMessage ? 0 : isParams ? 1 : -1;
  return { isObject, keys: rank < 0 ? undefined : new Set(), rank, key: '' };
}

function isAmbiguous({ keys, rank }: Level, key: string): boolean {
  const fold = folded(key);
  if (keys?.has(fold) === true) return true;
  keys?.add(fold);
  return fold !== key && KNOWN[rank]!.has(fold);
}

function isKey(text: string, from: number): boolean {
  let at = from;
  while (text[at] === ' ' || text[at] === '\t' || text[at] === '\n' || text[at] === '\r') at++;
  return text[at] === ':';
}

/** The place of the closing quote. */
function endOfString(text: string, from: number): number {
  let at = text.indexOf('"', from);
  while (at > 0 && isEscaped(text, at, from)) at = text.indexOf('"', at + 1);
  return at < 0 ? text.length : at;
}

function isEscaped(text: string, at: number, from: number): boolean {
  let backslashes = 0;
  while (at - 1 - backslashes >= from && text[at - 1 - backslashes] === '\\') backslashes++;
  return backslashes % 2 === 1;
}
