// Turns a comparison into a table, with ratios to Envoy.
import { type Comparison, type Measure, measures, type Row } from './compare.ts';

const names = Object.keys(measures) as Measure[];

/** Markdown that also reads well on a terminal. */
export function reportOf(comparison: Comparison): string {
  const { at, processor, cores, loadBefore, rounds, seconds, rows } = comparison;
  const envoy = rows.find((row) => row.name === 'envoy' && row.missing === undefined);
  const lines = [
    `Measured ${at} on ${cores} cores of ${processor}; ${rounds} interleaved rounds of ${seconds} s a measurement, ` +
      `load average before ${loadBefore.toFixed(2)}. Medians, with the least and the most in parentheses.`,
    '',
    ...table(
      ['', ...names.map((name) => measures[name].title)],
      rows.map((row) => [row.name, ...names.map((name) => cell(row, name))]),
    ),
  ];
  if (envoy !== undefined) {
    const others = rows.filter((row) => row !== envoy && row.name !== 'direct' && row.missing === undefined);
    lines.push(
      '',
      'Times Envoy (for CPU and mean latency less is better):',
      '',
      ...table(
        ['', ...names.map((name) => measures[name].title)],
        others.map((row) => [row.name, ...names.map((name) => ratio(row, envoy, name))]),
      ),
    );
  }
  const mib = (value: number | undefined): string => (value === undefined ? '' : value.toFixed(0));
  lines.push(
    '',
    ...table(
      ['', 'ready after ms', 'resident MiB, idle', 'resident MiB, after the load'],
      rows
        .filter((row) => row.readyMs !== undefined)
        .map((row) => [row.name, mib(row.readyMs), mib(row.idleMiB), mib(row.loadedMiB)]),
    ),
  );
  for (const row of rows)
    if (row.missing !== undefined) lines.push('', `Without ${row.name}: ${row.missing}`);
  return `${lines.join('\n')}\n`;
}

function cell(row: Row, name: Measure): string {
  const summary = row.results[name];
  if (summary === undefined) return row.missing === undefined ? '' : 'not measured';
  return `${show(summary.median)} (${show(summary.min)}–${show(summary.max)})`;
}

function ratio(row: Row, base: Row, name: Measure): string {
  const [value, baseValue] = [row.results[name]?.median, base.results[name]?.median];
  return value === undefined || baseValue === undefined ? '' : `${(value / baseValue).toFixed(2)}`;
}

function show(value: number): string {
  return value < 10 ? value.toFixed(2) : Math.round(value).toLocaleString('en-US');
}

function table(head: string[], body: string[][]): string[] {
  const widths = head.map((title, column) =>
    Math.max(title.length, ...body.map((row) => row[column]!.length)),
  );
  const line = (cells: string[]): string =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)];
}
