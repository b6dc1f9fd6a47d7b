import type { Durations } from './durations.ts';
import type { HistogramLayout } from './histogram-layout.ts';

export type Labels = Readonly<Record<string, string | number>>;

/** The numbers of one label set of a histogram. */
export interface HistogramSample {
  readonly layout: HistogramLayout;
  /** As the layout says. */
  readonly totals: Float64Array;
  /** Whose exemplars are shown. */
  readonly owners: readonly Durations[];
  /** Labels of its lines, kept for the next scrape. */
  readonly lines: (Labels | undefined)[];
}

/** One line of the exposition, or the lines of one label set of a histogram. */
export interface Sample {
  /** For the parts of a histogram; otherwise the metric's own. */
  readonly metricName?: string;
  /** Written out once for each object: one that is kept for the next scrape costs less then. */
  readonly labels: Labels;
  /** How many, of a histogram. */
  readonly value: number;
  readonly histogram?: HistogramSample;
  /** A call behind a bucket, which OpenMetrics shows. `timestamp` in seconds since 1970. */
  readonly exemplar?:
    | { readonly labelSet: Labels; readonly value: number; readonly timestamp: number }
    | undefined;
}

/**
 * A metric whose numbers belong to someone else and are read when someone scrapes. prom-client's own classes want
 * to be told of every change, and keep a string key a label set to find it by: too much for the path of a call.
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

  /** Lazily: the numbers are those of the moment when their line is asked for. */
  read(): Iterable<Sample> {
    return this.source();
  }
}
