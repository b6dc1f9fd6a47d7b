/** Recognizes a truncated file by comparing it with the file in use. Pure. */
import { type Section, valueAt } from './raw-values.ts';

interface File {
  readonly text: string;
  readonly file: unknown;
}

/**
 * Whether a file looks truncated, even if lines above its end changed: its last line is a line of the file in use, or
 * the beginning of one, and the settings after that line are lost. A change of order loses nothing. White space,
 * comments and the end marker do not count. Among equal lines, the comparison picks the one with the most equal lines
 * above it; among those, the last one.
 */
export function isCut(before: File, next: File): boolean {
  const old = linesOf(before.text);
  const lines = linesOf(next.text);
  const last = lines.at(-1);
  if (last === undefined) return false;
  // A truncated line has lost its line ending; a line with one is complete.
  const isOpen = !/[\r\n]\s*$/.test(next.text);
  let cutAt = -1;
  let mostEqual = -1;
  old.forEach((line, at) => {
    if (line !== last && !(isOpen && line.startsWith(last))) return;
    let equal = line === last ? 1 : 0;
    for (let above = 1; above < lines.length && above <= at; above++) {
      if (lines.at(-1 - above) !== old[at - above]) break;
      equal++;
    }
    if (equal < mostEqual) return;
    mostEqual = equal;
    cutAt = at;
  });
  if (cutAt < 0) return false;
  if (old[cutAt] !== last) return JSON.stringify(before.file) !== JSON.stringify(next.file);
  return cutAt < old.length - 1 && leaves(before.file).some((path) => valueAt(next.file, path) === undefined);
}

function linesOf(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && line !== '...' && !/^\s*#/.test(line));
}

/** The paths of all values that are neither a section nor a list. */
function leaves(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return value === null ? [] : [path];
  const steps = Array.isArray(value) ? value.map((_, index) => index) : Object.keys(value);
  return steps.flatMap((step) => leaves((value as Section)[step], [...path, step]));
}
