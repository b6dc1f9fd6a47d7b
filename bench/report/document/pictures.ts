// Pictures of results, as SVG files that stand alone and follow the reader's light or dark scheme.
import { escapeHtml, linearAxis, lineChart, logAxis, type Series } from '../../../scripts/reports/chart.ts';
import { rowOf, type SectionResult, summaryOf } from '../../measuring/results.ts';
import { ENDPOINTS, HEADERS, STREAMS } from '../../sections/growth.ts';

const WIDTH = 860;
const LABEL_WIDTH = 150;
const VALUE_WIDTH = 90;
const BAR_HEIGHT = 18;
const ROW_HEIGHT = 24;
const TITLE_HEIGHT = 30;

/** A colour for each target, readable on light and on dark. */
const COLOURS: Readonly<Record<string, string>> = {
  direct: '#8a8f98',
  envoy: '#b8692e',
  haproxy: '#3f7fbf',
  nginx: '#4f9a55',
  'node:http2': '#9a7fb5',
  'grpc-js': '#b57f9a',
  'outrigger inbound': '#d0304b',
  'outrigger outbound': '#e08a00',
};

const STYLE = `<style>
text{font:13px system-ui,sans-serif;fill:#24292f}.grid{stroke:#8886;stroke-width:1}.line{fill:none;stroke-width:2}
.title{font-weight:600}${Object.entries(COLOURS)
  .map(
    ([name, colour]) => `.${styleOf(name)}{stroke:${colour};fill:${colour}}.line.${styleOf(name)}{fill:none}`,
  )
  .join('')}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}}
</style>`;

/** File name → its content. A section without results has no picture. */
export function pictures(results: (section: string) => SectionResult | undefined): Map<string, string> {
  const files = new Map<string, string>();
  const add = (name: string, content: string | undefined): void => {
    if (content !== undefined) files.set(`performance-${name}.svg`, content);
  };
  const calls = results('calls');
  add(
    'calls',
    barsOf([
      ['calls/s, 4 connections x 25 streams', calls, 'wide'],
      ['calls/s, 64 connections x 1 stream', calls, 'many'],
      ['calls/s, 10 connections x 100 streams', calls, 'thousand'],
    ]),
  );
  const rates = results('rates');
  add(
    'cpu',
    barsOf([
      ['CPU µs a call at 200/s (less is better)', rates, 'cpu200'],
      ['CPU µs a call at 1,500/s (less is better)', rates, 'cpu1500'],
    ]),
  );
  const growth = results('endpoints');
  add(
    'endpoints',
    lines('CPU µs a call over endpoints', growth, ENDPOINTS, (count) => ['cpu', `${count}`]),
  );
  const counts = Object.keys(STREAMS).map(Number);
  add(
    'streams',
    lines('calls/s over streams', results('streams'), counts, (count) => [`s${count}`, '']),
  );
  add(
    'headers',
    lines('calls/s over headers', results('headers'), HEADERS, (count) => [`h${count}`, ''], 'linear'),
  );
  add('soak', soakLines(results('soak')));
  return files;
}

type Group = readonly [title: string, result: SectionResult | undefined, measure: string];

/** Horizontal bars of each target, a group below the other. */
function barsOf(groups: readonly Group[]): string | undefined {
  const parts: string[] = [];
  let y = 0;
  for (const [title, result, measure] of groups) {
    const rows = (result?.rows ?? []).flatMap(({ target, variant }) => {
      const summary = summaryOf(rowOf(result, target, variant), measure);
      return summary === undefined || target === 'direct' ? [] : [{ target, value: summary.median }];
    });
    if (rows.length === 0) continue;
    parts.push(`<text class="title" x="0" y="${y + 18}">${escapeHtml(title)}</text>`);
    y += TITLE_HEIGHT;
    const most = Math.max(...rows.map(({ value }) => value));
    for (const { target, value } of rows) {
      const width = ((WIDTH - LABEL_WIDTH - VALUE_WIDTH) * value) / most;
      const middle = y + BAR_HEIGHT - 4;
      parts.push(
        `<text x="${LABEL_WIDTH - 8}" y="${middle}" text-anchor="end">${escapeHtml(target)}</text>` +
          `<rect class="${styleOf(target)}" x="${LABEL_WIDTH}" y="${y}" width="${width.toFixed(1)}" height="${BAR_HEIGHT}"/>` +
          `<text x="${(LABEL_WIDTH + width + 8).toFixed(1)}" y="${middle}">${number(value)}</text>`,
      );
      y += ROW_HEIGHT;
    }
    y += ROW_HEIGHT / 2;
  }
  if (parts.length === 0) return undefined;
  const label = escapeHtml(groups.map(([title]) => title).join('; '));
  return `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="${label}" viewBox="0 0 ${WIDTH} ${y}">${STYLE}${parts.join('')}</svg>\n`;
}

/** A line for each target over counts. */
function lines(
  title: string,
  result: SectionResult | undefined,
  counts: readonly number[],
  place: (count: number) => readonly [measure: string, variant: string],
  scale: 'log' | 'linear' = 'log',
): string | undefined {
  const names = [...new Set((result?.rows ?? []).map(({ target }) => target))].filter(
    (name) => name !== 'direct',
  );
  const series: Series[] = names.map((name) => ({
    name,
    style: styleOf(name),
    points: counts.map((count) => {
      const [measure, variant] = place(count);
      return [count, summaryOf(rowOf(result, name, variant), measure)?.median] as const;
    }),
  }));
  const values = series.flatMap(({ points }) => points.map(([, y]) => y ?? 0));
  if (values.every((value) => value === 0)) return undefined;
  const x =
    scale === 'log'
      ? logAxis(counts[0]!, counts.at(-1)!, number)
      : linearAxis(counts.at(-1)!, number, counts.length);
  return framed(title, lineChart(title, x, linearAxis(Math.max(...values), number), series), series);
}

function soakLines(result: SectionResult | undefined): string | undefined {
  const rows = (result?.rows ?? []).filter(({ values }) => values['mib'] !== undefined);
  if (rows.length === 0) return undefined;
  const seconds = result!.seconds;
  const series: Series[] = rows.map(({ target, values }) => {
    const samples = values['mib']!;
    const minutes = seconds / 60 / samples.length;
    return {
      name: target,
      style: styleOf(target),
      points: samples.map((mib, i) => [(i + 1) * minutes, mib] as const),
    };
  });
  const most = Math.max(...series.flatMap(({ points }) => points.map(([, y]) => y ?? 0)));
  const title = 'resident MiB over minutes';
  const chart = lineChart(title, linearAxis(seconds / 60, number, 10), linearAxis(most, number), series);
  return framed(title, chart, series);
}

/** A chart with its title, and a legend below it. */
function framed(title: string, chart: string, series: readonly Series[]): string {
  const width = (WIDTH - 72) / series.length;
  const legend = series.map(
    ({ name, style }, i) =>
      `<rect class="${style}" x="${72 + i * width}" y="334" width="12" height="12"/>` +
      `<text x="${90 + i * width}" y="345">${escapeHtml(name)}</text>`,
  );
  const inner = chart.replace('<svg ', `<svg y="26" width="${WIDTH}" height="300" `);
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="${escapeHtml(title)}" viewBox="0 0 ${WIDTH} 356">${STYLE}` +
    `<text class="title" x="0" y="18">${escapeHtml(title)}</text>${inner}${legend.join('')}</svg>\n`
  );
}

function styleOf(target: string): string {
  return `t-${target.replaceAll(/[^a-z0-9]+/g, '-')}`;
}

function number(value: number): string {
  return value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 1 : 0 });
}
