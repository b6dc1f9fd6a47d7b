/** A metric that reads its numbers from their owner at each scrape. */
import type { Durations } from '../../telemetry/durations.ts';
import type { HistogramLayout } from './histogram-layout.ts';

export type Labels = Readonly<Record<string, string | number>>;

/** The numbers of one label set of a histogram. */
export interface HistogramSample {
  readonly layout: HistogramLayout;
  /** In the order of the layout. */
  readonly totals: Float64Array;
  /** The durations whose exemplars are shown. */
  readonly owners: readonly Durations[];
  /** The labels of its lines, kept for the next scrape. */
  readonly lines: (Labels | undefined)[];
}

/** One line of the exposition, or the lines of one label set of a histogram. */
export interface Sample {
  /** Set for the parts of a histogram; otherwise the name is the metric's own. */
  readonly metricName?: string;
  /** prom-client formats each labels object once; an object that is kept makes the next scrape cheaper. */
  readonly labels: Labels;
  /** For a histogram, the count. */
  readonly value: number;
  readonly histogram?: HistogramSample;
  /** A call behind a bucket, which OpenMetrics shows. `timestamp` is in seconds since 1970. */
  readonly exemplar?:
    | { readonly labelSet: Labels; readonly value: number; readonly timestamp: number }
    | undefined;
}

/**
 * A metric whose numbers belong to another object; a scrape reads them. prom-client's own classes need a call for every
 * change, and find each label set by a string key: both are too slow for the path of a call.
 */
export class SampledMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  private readonly source: () => Iterable<Sample>;

  constructor(type: SampledMetric['type'], name: string, help: string, read: () => Iterable<Sample>) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.source = read;
  }

  /** Lazy: each line has the numbers of the moment when the reader takes it. */
  read(): Iterable<Sample> {
    return this.source();
  }
}

/** Adds a metric to the page. */
export type AddMetric = (
  type: SampledMetric['type'],
  name: string,
  help: string,
  read: () => Iterable<Sample>,
) => void;
