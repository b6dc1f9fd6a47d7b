// The sidecar's performance targets, compared with the results.
import { addedOfRounds, ratioOfRounds } from '../../measuring/ratios.ts';
import {
  readResult,
  rowOf,
  type SectionResult,
  type SectionRow,
  summaryOf,
} from '../../measuring/results.ts';
import type { Summary } from '../../measuring/statistics.ts';

interface Finding {
  /** Whose figure it is: a listener, or a way. */
  readonly of: string;
  readonly text: string;
  readonly holds: boolean;
}

export interface Bar {
  readonly name: string;
  /** Such as `≥ 4 times Envoy`. */
  readonly limit: string;
  /** None when it was not measured. */
  readonly findings: readonly Finding[];
}

export type Results = (section: string) => SectionResult | undefined;

type Comparison = 'at least' | 'at most';

const SIDES = ['outrigger inbound', 'outrigger outbound'] as const;
const PEERS = { envoy: 'Envoy', haproxy: 'HAProxy' } as const;
const READY_MS = 300;

export function bars(results: Results = (section) => readResult(section)): Bar[] {
  const ratio = (
    name: string,
    section: string,
    measure: string,
    comparison: Comparison,
    factor: number,
    peer: keyof typeof PEERS,
    pairs: readonly Pair[] = SIDES.map((side) => ({ of: side, target: side })),
  ): Bar => ({
    name,
    limit: `${sign(comparison)} ${factor === 1 ? '' : `${factor} times `}${PEERS[peer]}`,
    findings: pairs.flatMap(({ of, target, variant = '', peerVariant = variant }) => {
      const result = results(section);
      const summary = ratioOfRounds(
        rowOf(result, target, variant),
        rowOf(result, peer, peerVariant),
        measure,
      );
      if (summary === undefined) return [];
      return [{ of, text: `${spread(summary, 2)} times`, holds: within(summary.median, comparison, factor) }];
    }),
  });
  const ways = ['out', 'in', 'pair'].map((way) => ({ of: way, target: 'outrigger', variant: way }));
  const traced = SIDES.map((side) => ({ of: side, target: side, variant: '100 %' }));
  return [
    ratio('calls a second, 4 x 25', 'calls', 'wide', 'at least', 4, 'envoy'),
    ratio('calls a second, 4 x 25', 'calls', 'wide', 'at least', 1, 'haproxy'),
    ratio('calls a second, 64 x 1', 'calls', 'many', 'at least', 2.5, 'envoy'),
    ratio('calls a second, 64 x 1', 'calls', 'many', 'at least', 1, 'haproxy'),
    ratio('CPU time a call at 1,500/s', 'rates', 'cpu1500', 'at most', 0.6, 'envoy'),
    ratio('CPU time a call at 1,500/s', 'rates', 'cpu1500', 'at most', 1.1, 'haproxy'),
    addedLatency(results('rates'), 'p50'),
    addedLatency(results('rates'), 'p99'),
    ratio('new header values, literal', 'unique-headers', 'literal', 'at least', 3, 'envoy'),
    ratio('new header values, indexed', 'unique-headers', 'indexed', 'at least', 3, 'envoy'),
    ratio('chunks a second', 'chunks', 'chunks', 'at least', 3, 'envoy'),
    ratio('answers of 1 MiB', 'large', 'answers', 'at least', 1, 'envoy'),
    ratio('requests of 1 MiB', 'large', 'requests', 'at least', 1, 'envoy'),
    ratio('tracing of each call', 'tracing', 'calls', 'at least', 1.5, 'envoy', traced),
    ratio('mutual TLS', 'tls', 'calls', 'at least', 4, 'envoy', ways),
    ratio('idle memory', 'memory', 'idle', 'at most', 1, 'envoy', asImage(results('memory'))),
    ratio('bytes an idle stream', 'memory', 'stream', 'at most', 1, 'envoy', asImage(results('memory'))),
    readiness(results('ready')),
    manyEndpoints(results('endpoints')),
    soakSlope(results('soak')),
  ];
}

interface Pair {
  readonly of: string;
  readonly target: string;
  readonly variant?: string;
  /** Of the peer's row; the same when absent. */
  readonly peerVariant?: string;
}

/** Users run the image; if a run did not measure it, the figure is that of the sources. */
function asImage(result: SectionResult | undefined): Pair[] {
  return SIDES.map((side) => {
    const image = Object.keys(rowOf(result, side, 'image')?.values ?? {}).length > 0;
    return {
      of: image ? `${side}, image` : side,
      target: side,
      variant: image ? 'image' : '',
      peerVariant: '',
    };
  });
}

function addedLatency(result: SectionResult | undefined, percentile: 'p50' | 'p99'): Bar {
  const measure = `${percentile}at1000`;
  const added = (target: string): Summary | undefined => addedOfRounds(result, target, measure);
  const theirs = added('haproxy');
  return {
    name: `added ${percentile} at 1,000/s`,
    limit: theirs === undefined ? "below HAProxy's" : `below HAProxy's ${theirs.median.toFixed(3)} ms`,
    findings: SIDES.flatMap((side) => {
      const ours = added(side);
      if (ours === undefined || theirs === undefined) return [];
      return [{ of: side, text: `${spread(ours, 3)} ms`, holds: ours.median < theirs.median }];
    }),
  };
}

function readiness(result: SectionResult | undefined): Bar {
  return {
    name: 'time to ready',
    limit: `≤ ${READY_MS} ms`,
    findings: asImage(result).flatMap(({ of, target, variant }) => {
      const summary = summaryOf(rowOf(result, target, variant), 'ready');
      if (summary === undefined) return [];
      return [{ of, text: `${spread(summary, 0)} ms`, holds: summary.median <= READY_MS }];
    }),
  };
}

function manyEndpoints(result: SectionResult | undefined): Bar {
  const of = (variant: string): SectionRow | undefined => rowOf(result, 'outrigger outbound', variant);
  const summary = ratioOfRounds(of('1000'), of('1'), 'cpu');
  return {
    name: 'cost of a call at 1,000 endpoints',
    limit: '≤ 1.1 times that at 1',
    findings:
      summary === undefined
        ? []
        : [{ of: 'outrigger outbound', text: `${spread(summary, 2)} times`, holds: summary.median <= 1.1 }],
  };
}

function soakSlope(result: SectionResult | undefined): Bar {
  return {
    name: 'slope of memory in the long run',
    limit: 'within noise of 0',
    findings: (result?.rows ?? []).map(({ target, values }) => {
      const [slope, interval] = [values['slope']![0]!, values['interval']![0]!];
      return {
        of: target,
        text: `${slope.toFixed(3)} ± ${interval.toFixed(3)} MiB a minute`,
        // Memory that falls does not leak.
        holds: slope - interval <= 0,
      };
    }),
  };
}

function sign(comparison: Comparison): string {
  return comparison === 'at least' ? '≥' : '≤';
}

function within(value: number, comparison: Comparison, limit: number): boolean {
  return comparison === 'at least' ? value >= limit : value <= limit;
}

function spread({ median, min, max, values }: Summary, digits: number): string {
  const range = values.length > 1 ? ` (${min.toFixed(digits)}–${max.toFixed(digits)})` : '';
  return `${median.toFixed(digits)}${range}`;
}
