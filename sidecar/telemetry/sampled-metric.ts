export type Labels = Readonly<Record<string, string | number>>;

/** One line of the exposition. */
export interface Sample {
  /** For the parts of a histogram; otherwise the metric's own. */
  readonly metricName?: string;
  readonly labels: Labels;
  /** Labels that many lines share: the same object each time, so that they are formatted once. */
  readonly sharedLabels?: Labels;
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
  private readonly source: (name: string) => readonly Sample[];

  constructor(
    type: SampledMetric['type'],
    name: string,
    help: string,
    read: (name: string) => readonly Sample[],
  ) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.source = read;
  }

  read(): readonly Sample[] {
    return this.source(this.name);
  }
}
