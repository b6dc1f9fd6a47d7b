import type { Labels } from './sampled-metric.ts';

/** One label set, with its numbers as of now. */
export interface Series {
  readonly labels: Labels;
  readonly totals: Float64Array;
}

interface RememberedSeries<Owner> extends Series {
  owners: Owner[];
  ownersBefore: Owner[];
  /** What owners that are gone had counted. */
  readonly past: Float64Array;
}

/** Adds what an owner has counted for a label set to `totals`. */
export type ReadOwner<Owner> = (owner: Owner, totals: Float64Array, labels: Labels) => void;

/**
 * Keeps counters from going down while the objects that count come and go.
 *
 * An endpoint that DNS drops and names again is a new object that counts from zero, and so is a cluster that a
 * reload takes out and another brings back. Its series goes on where it was, as long as no scrape found it absent;
 * then it is gone, and begins anew. Objects that share a label set are added up.
 */
export class CounterMemory<Owner extends object> {
  private readonly labelNames: readonly string[];
  private readonly width: number;
  private readonly readOwner: ReadOwner<Owner>;
  private readonly series = new Map<string, RememberedSeries<Owner>>();

  /** @param width how many numbers a label set has */
  constructor(labelNames: readonly string[], width: number, readOwner: ReadOwner<Owner>) {
    this.labelNames = labelNames;
    this.width = width;
    this.readOwner = readOwner;
  }

  /** One scrape: `visit` names every owner there is now. */
  collect(visit: (found: (owner: Owner, ...labelValues: string[]) => void) => void): readonly Series[] {
    for (const series of this.series.values()) {
      series.ownersBefore = series.owners;
      series.owners = [];
    }
    visit((owner, ...labelValues) => this.seriesOf(labelValues).owners.push(owner));
    for (const [key, series] of this.series) {
      if (series.owners.length === 0) this.series.delete(key);
      else this.add(series);
    }
    return [...this.series.values()];
  }

  private seriesOf(labelValues: readonly string[]): RememberedSeries<Owner> {
    const key = labelValues.join('\n');
    let series = this.series.get(key);
    if (series === undefined) {
      const { labelNames, width } = this;
      series = {
        labels: Object.fromEntries(labelNames.map((name, i) => [name, labelValues[i]!])),
        totals: new Float64Array(width),
        owners: [],
        ownersBefore: [],
        past: new Float64Array(width),
      };
      this.series.set(key, series);
    }
    return series;
  }

  private add(series: RememberedSeries<Owner>): void {
    const { labels, owners, ownersBefore, past, totals } = series;
    for (const owner of ownersBefore) if (!owners.includes(owner)) this.readOwner(owner, past, labels);
    series.ownersBefore = [];
    totals.set(past);
    for (const owner of owners) this.readOwner(owner, totals, labels);
  }
}
