/** Makes strings of the bytes of header fields. */
const of = String.fromCharCode;

/**
 * Returns the string of bytes[start,end), one character a byte. It builds short strings within compiled code: a call with a
 * fixed number of arguments takes a third of the time of the call into the runtime that longer strings need.
 */
// biome-ignore format: one line a length
export function latin1(b: Buffer, start: number, end: number): string {
  const s = start;
  switch (end - start) {
    case 0: return '';
    case 1: return of(b[s]!);
    case 2: return of(b[s]!, b[s + 1]!);
    case 3: return of(b[s]!, b[s + 1]!, b[s + 2]!);
    case 4: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!);
    case 5: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!);
    case 6: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!);
    case 7: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!);
    case 8: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!);
    case 9: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!);
    case 10: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!);
    case 11: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!);
    case 12: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!, b[s + 11]!);
    case 13: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!, b[s + 11]!, b[s + 12]!);
    case 14: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!, b[s + 11]!, b[s + 12]!, b[s + 13]!);
    case 15: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!, b[s + 11]!, b[s + 12]!, b[s + 13]!, b[s + 14]!);
    case 16: return of(b[s]!, b[s + 1]!, b[s + 2]!, b[s + 3]!, b[s + 4]!, b[s + 5]!, b[s + 6]!, b[s + 7]!, b[s + 8]!, b[s + 9]!, b[s + 10]!, b[s + 11]!, b[s + 12]!, b[s + 13]!, b[s + 14]!, b[s + 15]!);
    default: return b.toString('latin1', start, end);
  }
}

/** We build longer names anew each time. */
const MAX_KEPT_NAME_BYTES = 32;
/** The number of kept names, a power of two: about as many as the calls of a mesh spell out. */
const KEPT_NAMES = 256;

const keptNames: string[] = new Array<string>(KEPT_NAMES).fill('');

/**
 * The same for a field's name. Blocks spell out the same few names, so we keep the latest name of each of a few slots. Finding
 * it is cheaper than building it, and comparing or looking up the same string object is cheaper, too.
 */
export function latin1Name(b: Buffer, start: number, end: number): string {
  const length = end - start;
  if (length === 0 || length > MAX_KEPT_NAME_BYTES) return latin1(b, start, end);
  const slot =
    (length * 7 + b[start]! * 31 + b[end - 1]! * 131 + b[start + (length >> 1)]! * 17) & (KEPT_NAMES - 1);
  const kept = keptNames[slot]!;
  if (kept.length === length) {
    let i = 0;
    while (i < length && kept.charCodeAt(i) === b[start + i]) i++;
    if (i === length) return kept;
  }
  return (keptNames[slot] = latin1(b, start, end));
}
