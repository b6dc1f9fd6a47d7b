export type Labels = Readonly<Record<string, string | number>>;

/** One line of the exposition. */
export interface Sample {
  /** For the parts of a histogram; otherwise the metric's own. */
  readonly metricName?: string;
  /** Written out once for each object: one that is kept for the next scrape costs less then. */
  readonly labels: Labels;
  readonly value: number;
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
  private readonly source: (name: string) => Iterable<Sample>;

  constructor(
    type: SampledMetric['type'],
    name: string,
    help: string,
    read: (name: string) => Iterable<Sample>,
  ) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.source = read;
  }

  /** Lazily: the numbers are those of the moment when their line is asked for. */
  read(): Iterable<Sample> {
    return this.source(this.name);
  }
}
