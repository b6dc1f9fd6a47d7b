/** Files that end where the one in use went on. Pure. */
import { type Section, valueAt } from './raw-values.ts';

interface File {
  readonly text: string;
  readonly file: unknown;
}

/**
 * Whether a file looks like a cut one, also where something above its end was changed: its last line stands in the file in use,
 * or begins a line there, and what followed there is lost. Nothing is lost by a change of order. White space, comments
 * and the word for the end do not count. Of equal lines the one with most equal lines above it is meant; the last one, of equals.
 */
export function isCut(before: File, next: File): boolean {
  const old = linesOf(before.text);
  const lines = linesOf(next.text);
  const last = lines.at(-1);
  if (last === undefined) return false;
  // Whoever cuts a line takes its end along; a line that has one is as long as its writer wanted.
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

/** The paths of all that is no section and no list. */
function leaves(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return value === null ? [] : [path];
  const steps = Array.isArray(value) ? value.map((_, index) => index) : Object.keys(value);
  return steps.flatMap((step) => leaves((value as Section)[step], [...path, step]));
}
