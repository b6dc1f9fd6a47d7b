import type { Metric } from 'prom-client';

export type Labels = Readonly<Record<string, string | number>>;

/** One line of the exposition. */
export interface Sample {
  /** For the parts of a histogram; otherwise the metric's own. */
  readonly metricName?: string;
  readonly labels: Labels;
  /** Labels that many lines share: the same object each time, so that they are formatted once. */
  readonly sharedLabels?: Labels;
  readonly value: number;
}

/**
 * A metric whose numbers belong to someone else and are read when someone scrapes. prom-client's own classes want
 * to be told of every change, and keep a string key a label set to find it by: too much for the path of a call.
 *
 * It has what prom-client's `Registry` asks of a metric: `getForPromString` for the text format, `get` for JSON.
 */
export class SampledMetric {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly aggregator = 'sum';
  private readonly read: () => readonly Sample[];

  constructor(
    type: SampledMetric['type'],
    name: string,
    help: string,
    read: (name: string) => readonly Sample[],
  ) {
    this.type = type;
    this.name = name;
    this.help = help;
    this.read = () => read(name);
  }

  getForPromString() {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: this.read() };
  }

  get() {
    const values = this.read().map(({ sharedLabels, ...sample }) => ({
      ...sample,
      labels: { ...sample.labels, ...sharedLabels },
    }));
    return { ...this.getForPromString(), values };
  }

  reset(): void {
    // The numbers are not ours to reset.
  }

  /** prom-client's type names its own four classes only; its registry takes any object of this shape. */
  asMetric(): Metric {
    return this as unknown as Metric;
  }
}
