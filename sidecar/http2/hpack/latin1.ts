const of = String.fromCharCode;

/**
 * The string of bytes[start,end), one char a byte. Up to 16 bytes it is built without leaving JavaScript,
 * which takes a third of the time of the call into the runtime that longer ones are worth.
 */
// biome-ignore format: a line a length reads better than 136 lines
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
    default: return b.toString('latin1', start, end);
  }
}
