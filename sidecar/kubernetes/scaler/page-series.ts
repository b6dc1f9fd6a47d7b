/** Reads the lines of a page of metrics in Prometheus' text format. Pure. */
import { PageError } from './page-error.ts';

export interface Series {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** What follows the number is a time, or an exemplar behind `#`. */
const LINE = /^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/;
/** Sticky: each search begins where the one before ended, so that a line of letters is looked at once. */
const LABEL = /[\s,]*([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/gy;

/**
 * A wanted line: `name{label="value",…} number`. Undefined for another one.
 *
 * @param line of a bounded length
 * @throws PageError for a wanted line that has no such form
 */
export function readLine(line: string, wanted: ReadonlySet<string>): Series | undefined {
  // A page has thousands of lines, of which few are wanted.
  const start = line.slice(0, line.search(/\W/));
  if (!wanted.has(start)) return undefined;
  const [, name = '', written = '', number = ''] = LINE.exec(line) ?? [];
  if (name === '') throw new PageError(`a line of ${start} has no number`);
  const labels = new Map<string, string>();
  for (const [, key, quoted] of written.matchAll(LABEL)) labels.set(key!, quoted!);
  return { name, labels, value: numberOf(number) };
}

/** NaN for what is none. */
export function numberOf(text: string): number {
  return text === '+Inf' ? Number.POSITIVE_INFINITY : text === '' ? Number.NaN : Number(text);
}
