/** Decodes the bytes of a JSON key. Pure. */

/** @param latin1 the bytes of UTF-8, one a character */
export function utf8(latin1: string): string {
  let at = 0;
  while (at < latin1.length && latin1.charCodeAt(at) < 0x80) at++;
  if (at === latin1.length) return latin1;
  return Buffer.from(latin1, 'latin1').toString('utf8');
}

/** Returns the key without its escapes; undefined when they are malformed. */
export function unescaped(latin1: string): string | undefined {
  try {
    return JSON.parse(`"${utf8(latin1)}"`) as string;
  } catch {
    return undefined;
  }
}

/** Returns the key as servers read it that ignore case (Go's take ſ for an s), or end a text at a NUL. */
export function foldedKey(latin1: string): string {
  const key = unescaped(latin1) ?? utf8(latin1);
  return key.split('\0', 1)[0]!.toUpperCase().toLowerCase();
}
