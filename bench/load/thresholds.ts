// The thresholds that a run must meet: --max-p99 50ms, --max-errors 1% and similar ones.

import { formatMs, formatPercent, parseDuration, parsePercent } from '../../scripts/reports/units.ts';
import type { Percentiles } from './histogram.ts';

/** The measured values that thresholds apply to. */
export interface Measured {
  readonly latency: Percentiles;
  readonly firstChunk: Percentiles;
  readonly chunkGap: Percentiles;
  /** 0 to 1. */
  readonly errorShare: number;
}

interface Kind {
  readonly unit: 'duration' | 'percent';
  readonly streamOnly?: true;
  readonly help: string;
  /** Undefined when no call was measured, which holds no threshold. */
  readonly found: (measured: Measured) => number | undefined;
}

const latency = (name: 'p50' | 'p90' | 'p95' | 'p99' | 'p99.9' | 'max', help: string): Kind => ({
  unit: 'duration',
  help,
  found: (measured) => measured.latency[name],
});

/** By the name of their option. */
export const THRESHOLDS: Readonly<Record<string, Kind>> = {
  'max-p50': latency('p50', 'the median latency of successful calls'),
  'max-p90': latency('p90', 'the 90th percentile'),
  'max-p95': latency('p95', 'the 95th percentile'),
  'max-p99': latency('p99', 'the 99th percentile'),
  'max-p99.9': latency('p99.9', 'the 99.9th percentile'),
  'max-latency': latency('max', 'the slowest successful call'),
  'max-errors': {
    unit: 'percent',
    help: 'the share of calls that failed or were not made',
    found: ({ errorShare }) => errorShare,
  },
  'max-first-chunk-p99': {
    unit: 'duration',
    streamOnly: true,
    help: '--stream: time to the first chunk, 99th percentile',
    found: ({ firstChunk }) => firstChunk.p99,
  },
  'max-chunk-gap-p99': {
    unit: 'duration',
    streamOnly: true,
    help: '--stream: time between two chunks, 99th percentile',
    found: ({ chunkGap }) => chunkGap.p99,
  },
};

export interface Threshold {
  /** Its option, without the dashes. */
  readonly name: string;
  /** Milliseconds, or a share of 1. */
  readonly limit: number;
}

/** Undefined when the text is no limit of that kind. */
export function parseLimit(name: string, text: string): number | undefined {
  return THRESHOLDS[name]!.unit === 'percent' ? parsePercent(text) : parseDuration(text);
}

export interface Verdict extends Threshold {
  readonly found: number | undefined;
  readonly held: boolean;
  /** `p99 12.3 ms ≤ 50.0 ms`. */
  readonly text: string;
}

export function judge(thresholds: readonly Threshold[], measured: Measured): Verdict[] {
  return thresholds.map(({ name, limit }) => {
    const kind = THRESHOLDS[name]!;
    const found = kind.found(measured);
    const held = found !== undefined && found <= limit;
    const format = kind.unit === 'percent' ? formatPercent : formatMs;
    const what = found === undefined ? 'no call was measured' : `${format(found)} ${held ? '≤' : '>'}`;
    return { name, limit, found, held, text: `--${name}: ${what} ${format(limit)}` };
  });
}
