// A report as one HTML file with its pictures inside: no scripts, nothing from elsewhere.
import {
  barChart,
  escapeHtml,
  linearAxis,
  lineChart,
  logAxis,
  percentileAxis,
  type Series,
  timeAxis,
} from '../../scripts/reports/chart.ts';
import { formatCount, formatDuration, formatMs, formatPercent } from '../../scripts/reports/units.ts';
import type { Percentiles } from './histogram.ts';
import type { LoadReport } from './report.ts';

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --soft: #5b6675; --grid: #dfe4ea;
  --first: #1f6fd1; --second: #b45309; --third: #8a94a3; --ok: #1f7a49; --failed: #c62f3b; --unsent: #8250c4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf2; --paper: #12161d; --soft: #a3adba; --grid: #2b3340;
  --first: #6aa9ff; --second: #f0a04b; --third: #8a94a3; --ok: #4cbf83; --failed: #ff6b74; --unsent: #b692f6; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 900px;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; color: var(--soft); } .warning { color: var(--failed); }
.verdict { color: var(--paper); border-radius: 4px; padding: .1rem .5rem; font-weight: 600; }
.passed { background: var(--ok); } .not-passed { background: var(--failed); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .7rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th:first-child, td:first-child, td.text { text-align: left; padding-left: 0; } td.text { white-space: normal; }
th { color: var(--soft); font-weight: 500; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); }
.grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.first { stroke: var(--first); fill: var(--first); } .second { stroke: var(--second); fill: var(--second); }
.third { stroke: var(--third); fill: var(--third); } path.line { fill: none; }
.ok { fill: var(--ok); } .failed { fill: var(--failed); } .unsent { fill: var(--unsent); }
.key i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin: 0 .35rem 0 1rem; }
.key i:first-child { margin-left: 0; }
`;

export function pageOf(report: LoadReport): string {
  const { settings, calls, generator, thresholds, verdict, warnings } = report;
  const parts = [
    `<h1>${escapeHtml(settings.method)} to ${escapeHtml(settings.target)} <span class="verdict ${
      verdict === 'passed' ? 'passed' : 'not-passed'
    }">${escapeHtml(verdict)}</span></h1>`,
    `<p>${escapeHtml(summaryOf(report))}</p>`,
    ...warnings.map((warning) => `<p class="warning">Warning: ${escapeHtml(warning)}</p>`),
    ...(calls.ok === 0 ? ['<p class="warning">No call succeeded.</p>'] : []),
    ...thresholds.map(
      ({ held, text }) =>
        `<p${held ? '' : ' class="warning"'}>${held ? 'Held' : 'Exceeded'}: ${escapeHtml(text)}</p>`,
    ),
    '<h2>Latency</h2>',
    percentileTable(report),
    ...charts(report),
    ...errorTables(report),
    '<h2>The generator</h2>',
    `<p>Calls were made ${formatMs(generator.scheduleLag.p50)} (median), ${formatMs(generator.scheduleLag.p99)} ` +
      `(99th percentile) and ${formatMs(generator.scheduleLag.max)} (at most) after they were due; that is part of the ` +
      `latency. One took ${generator.cpuMicrosecondsPerCall} µs of CPU time, all of them ` +
      `${formatPercent(generator.cpuShare)} of a core, of ${generator.cores}; Node ${escapeHtml(generator.node)}.</p>`,
  ];
  return (
    `<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n` +
    `<meta name="viewport" content="width=device-width, initial-scale=1">\n` +
    `<title>Load on ${escapeHtml(settings.target)}</title>\n<style>${STYLE}</style>\n<main>\n${parts.join('\n')}\n</main>\n</html>\n`
  );
}

function summaryOf({ startedAt, settings, calls, endedEarly, measuredMs }: LoadReport): string {
  const { inFlightBound, generatorLate } = calls.notSent;
  return (
    `${startedAt.slice(0, 19).replace('T', ' ')} UTC: ${formatCount(settings.ratePerSecond)} calls a second at a ` +
    `constant rate for ${formatDuration(measuredMs)}${endedEarly ? ' (ended early)' : ''} after ` +
    `${formatDuration(settings.warmupMs)} of warm-up, over ${settings.connections} connections` +
    `${settings.tls ? ' with TLS' : ''}. ${formatCount(calls.due)} calls were due, ${formatCount(calls.ok)} succeeded, ` +
    `${formatCount(calls.failed)} failed, ${formatCount(inFlightBound + generatorLate)} were not made` +
    `${calls.unfinished > 0 ? `, ${formatCount(calls.unfinished)} were unfinished` : ''}: ` +
    `${formatPercent(calls.errorShare)} errors.`
  );
}

function percentileTable({ latency, stream, generator }: LoadReport): string {
  const rows: [string, Percentiles][] = [
    ['from when it was due', latency.corrected],
    ['from when it was sent', latency.serviceTime],
  ];
  if (latency.failed.count > 0) rows.push(['of failed calls, from due', latency.failed]);
  if (stream !== undefined)
    rows.push(
      ['first chunk, from due', stream.firstChunk],
      ['first chunk, from sent', stream.firstChunkServiceTime],
      ['between chunks', stream.chunkGap],
    );
  rows.push(["the generator's own lag", generator.scheduleLag]);
  const columns = ['p50', 'p75', 'p90', 'p95', 'p99', 'p99.9', 'max'] as const;
  return table(
    ['latency', 'count', ...columns],
    rows.map(([name, values]) => [
      name,
      formatCount(values.count),
      ...columns.map((column) => formatMs(values[column])),
    ]),
  );
}

function charts({ latency, overTime }: LoadReport): string[] {
  const parts: string[] = [];
  const lastPercent = latency.curve.at(-1)?.[0];
  if (lastPercent !== undefined) {
    const series: Series[] = [
      { name: 'from when it was due', style: 'first', points: latency.curve },
      { name: 'from when it was sent', style: 'second', points: latency.serviceTimeCurve },
    ];
    parts.push(
      '<h2>Latency by percentile</h2>',
      key(series),
      lineChart('Latency by percentile', percentileAxis(lastPercent), msAxis(series), series),
    );
  }
  const last = overTime.at(-1);
  if (last === undefined) return parts;
  const seconds = last.atSeconds + last.seconds;
  const time = timeAxis(seconds, (value) => formatDuration(value * 1000));
  const middle = (at: number): number => at + last.seconds / 2;
  const series: Series[] = (['p50', 'p99', 'max'] as const).map((name, i) => ({
    name,
    style: ['first', 'second', 'third'][i]!,
    points: overTime.map((interval) => [middle(interval.atSeconds), interval[name]]),
  }));
  if (lastPercent !== undefined)
    parts.push(
      '<h2>Latency over time</h2>',
      '<p>For the calls that were due in each interval.</p>',
      key(series),
      lineChart('Latency over time', time, msAxis(series), series),
    );
  const most = Math.max(...overTime.map(({ due, seconds }) => due / seconds));
  parts.push(
    '<h2>Calls a second, by outcome</h2>',
    key([
      { name: 'succeeded', style: 'ok' },
      { name: 'failed', style: 'failed' },
      { name: 'not made', style: 'unsent' },
    ]),
    barChart(
      'Calls a second by outcome',
      time,
      linearAxis(most, (value) => formatCountOrPart(value)),
      overTime.map(({ atSeconds, seconds, ok, failed, notSent }) => ({
        from: atSeconds,
        to: atSeconds + seconds,
        parts: [
          { style: 'ok', value: ok / seconds },
          { style: 'failed', value: failed / seconds },
          { style: 'unsent', value: notSent / seconds },
        ],
      })),
    ),
  );
  return parts;
}

function errorTables({ errors, calls }: LoadReport): string[] {
  const { inFlightBound, generatorLate } = calls.notSent;
  const rows = errors.byOutcome.map(({ outcome, count, example }) => [outcome, formatCount(count), example]);
  if (inFlightBound > 0) rows.push(['not made: too many in flight', formatCount(inFlightBound), '']);
  if (generatorLate > 0) rows.push(['not made: generator late', formatCount(generatorLate), '']);
  if (errors.pushbacks > 0)
    rows.push(['of the failed calls, with grpc-retry-pushback-ms', formatCount(errors.pushbacks), '']);
  if (rows.length === 0) return [];
  const parts = ['<h2>Errors</h2>', table(['error', 'calls', 'example'], rows, true)];
  if (errors.byReason.length > 0)
    parts.push(
      '<h2>Errors from a sidecar</h2>',
      table(
        ['outrigger-reason', 'calls'],
        errors.byReason.map(({ reason, count }) => [reason, formatCount(count)]),
      ),
    );
  return parts;
}

function msAxis(series: readonly Series[]) {
  const values = series.flatMap(({ points }) => points.flatMap(([, y]) => (y === undefined ? [] : [y])));
  return logAxis(Math.min(...values), Math.max(...values), msLabel);
}

function msLabel(ms: number): string {
  if (ms >= 1000) return `${formatCount(ms / 1000)} s`;
  return ms >= 1 ? `${ms} ms` : `${Number((ms * 1000).toPrecision(2))} µs`;
}

function formatCountOrPart(value: number): string {
  return Number.isInteger(value) ? formatCount(value) : `${value}`;
}

function key(series: readonly Pick<Series, 'name' | 'style'>[]): string {
  return `<p class="key">${series
    .map(({ name, style }) => `<i style="background: var(--${style})"></i>${escapeHtml(name)}`)
    .join('')}</p>`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[], lastIsText = false): string {
  const cell = (text: string, i: number): string =>
    `<td${lastIsText && i === head.length - 1 ? ' class="text"' : ''}>${escapeHtml(text)}</td>`;
  return (
    `<div class="scroll" tabindex="0" role="group" aria-label="Table"><table><tr>${head.map((name) => `<th>${escapeHtml(name)}</th>`).join('')}</tr>` +
    `${rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`).join('')}</table></div>`
  );
}
