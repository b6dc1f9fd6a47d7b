import type { Labels } from './sampled-metric.ts';

/** One label set, with its numbers as of now. */
export interface Series<Owner> {
  readonly labels: Labels;
  readonly totals: Float64Array;
  /** Who counts for it now. */
  readonly owners: readonly Owner[];
  /** Labels of its lines, at the number's place: made once, so that they are also written out once. */
  readonly lines: (Labels | undefined)[];
}

interface RememberedSeries<Owner> extends Series<Owner> {
  owners: Owner[];
  ownersBefore: Owner[];
  /** What owners that are gone had counted; most have none. */
  past: Float64Array | undefined;
}

/** The labels of one of a series' lines, with one that only the line has. */
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

/** Label sets that are gone and whose totals are kept; those that went first are forgotten first. */
const MAX_GONE = 2_000;

/**
 * Keeps counters from going down while the objects that count come and go.
 *
 * An endpoint that DNS drops and names again is a new object that counts from zero, and so is a cluster that a
 * reload takes out and another brings back. Its series is not shown while nobody counts for it, and goes on where
 * it was when somebody does again. Objects that share a label set are added up.
 */
export class CounterMemory<Owner extends object> {
  private readonly labelNames: readonly string[];
  private readonly width: number;
  private readonly readOwner: ReadOwner<Owner>;
  private readonly shown = new Map<string, RememberedSeries<Owner>>();
  /** In the order in which they went. */
  private readonly gone = new Map<string, RememberedSeries<Owner>>();

  /** @param width how many numbers a label set has */
  constructor(labelNames: readonly string[], width: number, readOwner: ReadOwner<Owner>) {
    this.labelNames = labelNames;
    this.width = width;
    this.readOwner = readOwner;
  }

  /**
   * One scrape: `visit` names every owner there is now, at once; the totals are made one by one as they are asked
   * for, so that a long list can be taken in pieces. To be taken to its end before the next one begins.
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
    // One label is the common case of none to join.
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
    // Of what never counted anything there is nothing to remember.
    if (series.past === undefined || series.past.every((number) => number === 0)) return;
    series.lines.length = 0;
    this.gone.set(key, series);
    if (this.gone.size <= MAX_GONE) return;
    const [oldest] = this.gone.keys();
    this.gone.delete(oldest!);
  }
}
