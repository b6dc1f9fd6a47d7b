/** Reads the lines of a page of metrics in Prometheus' text format. Pure. */
import { PageError } from './page-error.ts';

export interface Series {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly value: number;
}

/** What follows the number is a time, or an exemplar behind `#`. */
const LINE = /^(\w+)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? (\S+)/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g;

/**
 * The wanted lines, one `name{label="value",…} number` each.
 *
 * @throws PageError for a line that has no such form
 */
export function* readSeries(text: string, wanted: ReadonlySet<string>): Generator<Series> {
  for (let start = 0; start < text.length; ) {
    let end = text.indexOf('\n', start);
    if (end < 0) end = text.length;
    const line = text.slice(start, end);
    start = end + 1;
    // A page has thousands of lines, of which few are wanted.
    if (!wanted.has(line.slice(0, line.search(/\W/)))) continue;
    const [, name = '', written = '', number = ''] = LINE.exec(line) ?? [];
    if (name === '') throw new PageError(`a line of ${line.slice(0, line.search(/\W/))} has no number`);
    const labels = new Map<string, string>();
    for (const [, key, quoted] of written.matchAll(LABEL)) labels.set(key!, quoted!);
    yield { name, labels, value: numberOf(number) };
  }
}

/** NaN for what is none. */
export function numberOf(text: string): number {
  return text === '+Inf' ? Number.POSITIVE_INFINITY : text === '' ? Number.NaN : Number(text);
}
