// Formats rows as a Markdown table that is also readable on a terminal.
import type { Row } from './row.ts';

const COLUMNS: readonly [title: string, cell: (row: Row) => string][] = [
  ['calls', ({ calls }) => `${calls}`],
  ['ok', ({ ok }) => `${ok}`],
  ['lost', ({ lost }) => `${lost}`],
  ['timed out', ({ timedOut }) => `${timedOut}`],
  ['cut', ({ cut }) => `${cut}`],
  ['failed', ({ failed }) => `${failed}`],
  ['shed', ({ shed }) => `${shed}`],
  ['run twice', ({ twice }) => `${twice}`],
  ['reached it', ({ reached }) => `${reached ?? ''}`],
  ['out after ms', ({ outAfterMs }) => `${outAfterMs ?? ''}`],
  ['back after ms', ({ backAfterMs }) => `${backAfterMs ?? ''}`],
  ['', ({ note }) => note],
];

export const LEGEND = [
  'lost: answered UNAVAILABLE, although another try would have harmed nobody; timed out: waited for a silent',
  'replica to the end of their time; cut: streams that ended after their first message; failed: answered with an',
  'error that is not to be retried; shed: turned away, being too many; run twice: tasks run again although',
  'the first run had succeeded or was going on; reached it: attempts at the faulty replica while it was faulty.',
].join(' ');

/** @param lines each begins with the cells of its subject; `leading` has the titles of those */
export function tableOf(leading: readonly string[], lines: readonly (readonly [string[], Row])[]): string {
  const head = [...leading, ...COLUMNS.map(([title]) => title)];
  const body = lines.map(([cells, row]) => [...cells, ...COLUMNS.map(([, cell]) => cell(row))]);
  return markdown(head, body);
}

export function markdown(head: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(title.length, 3, ...body.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('\n');
}

/** The document with this table between its marks. Throws without marks. */
export function between(document: string, table: string): string {
  const [begin, end] = ['<!-- faults:begin -->', '<!-- faults:end -->'];
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < from) throw new Error(`the document has no ${begin} … ${end}`);
  return `${document.slice(0, from + begin.length)}\n\n${table.trim()}\n\n${document.slice(to)}`;
}
