/** Remembers the counts of removed objects. */
import type { Labels, Sample } from './sampled-metric.ts';

/** One label set, with its current numbers. */
export interface Series<Owner> {
  readonly labels: Labels;
  readonly totals: Float64Array;
  /** The objects that count for it now. */
  readonly owners: readonly Owner[];
  /** The labels of its lines, by the index of the number. Created once, so that their text is also written once. */
  readonly lines: (Labels | undefined)[];
}

interface RememberedSeries<Owner> extends Series<Owner> {
  owners: Owner[];
  ownersBefore: Owner[];
  /** The counts of removed owners; undefined for most series. */
  past: Float64Array | undefined;
}

/** The labels of one line of a series, plus one label that only this line has. */
export function lineLabels(
  series: Pick<Series<unknown>, 'labels' | 'lines'>,
  place: number,
  label: string,
  value: string,
): Labels {
  return (series.lines[place] ??= { [label]: value, ...series.labels });
}

/** Adds what an owner has counted for a label set to `totals`. */
export type ReadOwner<Owner> = (owner: Owner, totals: Float64Array, labels: Labels) => void;

/** The removed label sets whose totals we keep; the memory drops the oldest first. */
const MAX_GONE = 2_000;

/**
 * Keeps counters from decreasing while the objects that count are created and removed.
 *
 * DNS may drop an endpoint and return it later, and a reload may remove a cluster and another add it again. The new
 * object counts from zero. A series is hidden while no object counts for it, and continues from its last value when one
 * does again. Objects with the same label set are summed.
 */
export class CounterMemory<Owner extends object> {
  private readonly labelNames: readonly string[];
  private readonly width: number;
  private readonly readOwner: ReadOwner<Owner>;
  private readonly shown = new Map<string, RememberedSeries<Owner>>();
  /** In order of removal. */
  private readonly gone = new Map<string, RememberedSeries<Owner>>();

  /** @param width how many numbers a label set has */
  constructor(labelNames: readonly string[], width: number, readOwner: ReadOwner<Owner>) {
    this.labelNames = labelNames;
    this.width = width;
    this.readOwner = readOwner;
  }

  /**
   * One scrape: `visit` names every current owner at once. The generator computes the totals one by one, on request, so
   * that a caller can take a long list in pieces. Finish one scrape before you begin the next.
   */
  *collect(
    visit: (found: (owner: Owner, ...labelValues: string[]) => void) => void,
  ): Generator<Series<Owner>> {
    for (const series of this.shown.values()) {
      const { owners } = series;
      series.owners = series.ownersBefore;
      series.owners.length = 0;
      series.ownersBefore = owners;
    }
    visit((owner, ...labelValues) => this.seriesOf(labelValues).owners.push(owner));
    for (const [key, series] of this.shown) {
      this.add(series);
      if (series.owners.length === 0) this.forget(key, series);
      else yield series;
    }
  }

  private seriesOf(labelValues: readonly string[]): RememberedSeries<Owner> {
    // Most metrics have one label, which needs no join.
    const key = labelValues.length === 1 ? labelValues[0]! : labelValues.join('\n');
    const shown = this.shown.get(key);
    if (shown !== undefined) return shown;
    const series = this.gone.get(key) ?? this.create(labelValues);
    this.gone.delete(key);
    this.shown.set(key, series);
    return series;
  }

  private create(labelValues: readonly string[]): RememberedSeries<Owner> {
    const { labelNames, width } = this;
    return {
      labels: Object.fromEntries(labelNames.map((name, i) => [name, labelValues[i]!])),
      totals: new Float64Array(width),
      owners: [],
      ownersBefore: [],
      past: undefined,
      lines: [],
    };
  }

  private add(series: RememberedSeries<Owner>): void {
    const { labels, owners, ownersBefore, totals } = series;
    for (const owner of ownersBefore) {
      if (owners.includes(owner)) continue;
      series.past ??= new Float64Array(this.width);
      this.readOwner(owner, series.past, labels);
    }
    ownersBefore.length = 0;
    if (series.past === undefined) totals.fill(0);
    else totals.set(series.past);
    for (const owner of owners) this.readOwner(owner, totals, labels);
  }

  private forget(key: string, series: RememberedSeries<Owner>): void {
    this.shown.delete(key);
    // A series that never counted anything needs no memory.
    if (series.past === undefined || series.past.every((number) => number === 0)) return;
    series.lines.length = 0;
    this.gone.set(key, series);
    if (this.gone.size <= MAX_GONE) return;
    const [oldest] = this.gone.keys();
    this.gone.delete(oldest!);
  }
}

/** Adds counts by name; the name is the value of a label. */
export function addNamedCount(label: string) {
  return (counts: ReadonlyMap<string, number>, totals: Float64Array, labels: Labels): void => {
    totals[0]! += counts.get(String(labels[label])) ?? 0;
  };
}

/** The one number of each label set. */
export function* totals(series: Iterable<Series<unknown>>): Generator<Sample> {
  for (const { labels, totals } of series) yield { labels, value: totals[0]! };
}
