// A report as lines for a terminal or a log.

import { formatCount, formatDuration, formatMs, formatPercent } from '../../scripts/reports/units.ts';
import type { Percentiles } from './histogram.ts';
import type { LoadReport } from './report.ts';

const COLUMNS = ['p50', 'p75', 'p90', 'p95', 'p99', 'p99.9', 'max'] as const;
const LABEL_WIDTH = 26;
const COLUMN_WIDTH = 10;

export function textOf(report: LoadReport): string {
  const { settings, calls, latency, stream, errors, generator, warnings, thresholds, verdict } = report;
  const lines = [
    `${settings.method} to ${settings.target}, ${formatCount(settings.ratePerSecond)} calls/s for ` +
      `${formatDuration(report.measuredMs)}${report.endedEarly ? ' (ended early)' : ''}, ` +
      `${settings.connections} connections${settings.tls ? ' with TLS' : ''}`,
    '',
    `calls    ${formatCount(calls.due)} due, ${formatCount(calls.sent)} sent (${formatCount(calls.sentPerSecond)}/s), ` +
      `${formatCount(calls.ok)} ok, ${formatCount(calls.failed)} failed` +
      (calls.unfinished > 0 ? `, ${formatCount(calls.unfinished)} unfinished` : ''),
    `errors   ${formatPercent(calls.errorShare)}`,
    '',
    `${''.padEnd(LABEL_WIDTH)}${COLUMNS.map((name) => name.padStart(COLUMN_WIDTH)).join('')}`,
    row('latency, from due', latency.corrected),
    row('service time, from sent', latency.serviceTime),
  ];
  if (latency.failed.count > 0) lines.push(row('of failed calls', latency.failed));
  if (stream !== undefined) {
    lines.push(row('first chunk, from due', stream.firstChunk));
    lines.push(row('first chunk, from sent', stream.firstChunkServiceTime));
    lines.push(row('between chunks', stream.chunkGap));
  }
  lines.push(row("generator's own lag", generator.scheduleLag));
  lines.push('');
  if (stream !== undefined)
    lines.push(`chunks   ${formatCount(stream.chunks)} (${formatCount(stream.chunksPerSecond)}/s)`);
  lines.push(
    `generator  ${generator.cpuMicrosecondsPerCall} µs of CPU a call, ${formatPercent(generator.cpuShare)} of a core`,
  );
  if (errors.byOutcome.length > 0) {
    lines.push('', 'failed calls');
    for (const { outcome, count, example } of errors.byOutcome)
      lines.push(
        `  ${formatCount(count).padStart(9)}  ${outcome}${example === '' ? '' : `, such as: ${example}`}`,
      );
    for (const { reason, count } of errors.byReason)
      lines.push(`  ${formatCount(count).padStart(9)}  outrigger-reason ${reason}`);
    if (errors.pushbacks > 0)
      lines.push(`  ${formatCount(errors.pushbacks).padStart(9)}  with grpc-retry-pushback-ms`);
  }
  if (warnings.length > 0) lines.push('', ...warnings.map((warning) => `warning: ${warning}`));
  lines.push('', ...thresholds.map(({ held, text }) => `${held ? 'held    ' : 'exceeded'} ${text}`));
  if (calls.ok === 0) lines.push('no call succeeded');
  lines.push(verdict === 'passed' && thresholds.length === 0 ? 'passed (without thresholds)' : verdict);
  return `${lines.join('\n')}\n`;
}

function row(label: string, values: Percentiles): string {
  const cells = COLUMNS.map((name) => formatMs(values[name]).padStart(COLUMN_WIDTH));
  return `${label.padEnd(LABEL_WIDTH)}${cells.join('')}`;
}
