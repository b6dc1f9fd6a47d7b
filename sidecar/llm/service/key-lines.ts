/** Reads the keys of a caller from the text of a file or a variable: one a line, and lines that begin with `#` are comments. Pure. */

/** A shorter key could be guessed. */
const MIN_KEY = 16;

/** The keys, and why a line is none; never with the line in it. */
export interface KeyLines {
  readonly keys: readonly string[];
  readonly problems: readonly string[];
}

export function keysIn(text: string): KeyLines {
  const keys: string[] = [];
  const problems: string[] = [];
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const key = line.trim();
    if (key === '' || key.startsWith('#')) continue;
    if (/\s/.test(key)) problems.push(`line ${index + 1} has white space in it, and is no key`);
    else if (key.length < MIN_KEY)
      problems.push(`line ${index + 1} has fewer than ${MIN_KEY} characters, and is no key`);
    else keys.push(key);
  }
  if (keys.length === 0 && problems.length === 0) problems.push('it has no key');
  return { keys, problems };
}
