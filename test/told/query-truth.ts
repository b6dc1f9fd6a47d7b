// How the truth of a query is written down, and held to what Prometheus answers.
import type { VectorElement } from '../support/prometheus.ts';
import { complaint, type Ledger, type Service, type Truth } from './ledger.ts';

/** By labels, as {@link keyOf} writes them. What is not named is 0, no number, or not there. */
export type Values = Readonly<Record<string, Truth>>;

export type QueryTruth =
  /**
   * Of values a second; of what was added in the second round; of what is so at its end; and of what is so while calls are held.
   * An alert's query gives nothing but what is named.
   */
  | { readonly per: 'second' | 'round' | 'end' | 'held' | 'alert'; readonly of: Values }
  | { readonly why: string };

/** By the query's place, as `WrittenQuery.where` names it. */
export type Truths = Readonly<Record<string, QueryTruth>>;

/** What is true of one service's numbers. */
export interface Facts {
  readonly service: Service;
  /** Of the second round; what others have seen is left out. */
  readonly ledger: Ledger;
  readonly kind: 'classic' | 'native';
  /** By cluster; the agent beside its sidecar is `app`. */
  readonly endpoints: Readonly<Record<string, readonly string[]>>;
  /** Calls that wait at the agent while they are held. */
  readonly held: number;
  /** That the collector got. */
  readonly spans: number;
  /** For so long the provider is left alone while calls are held. */
  readonly coolingS: Truth;
}

export type Labels = Readonly<Record<string, string>>;

export function keyOf(labels: Labels): string {
  return Object.entries(labels)
    .filter(([name, value]) => value !== '' && name !== '__name__')
    .map(([name, value]) => `${name}=${value}`)
    .sort()
    .join(' ');
}

/** What is true of each group. */
export function groups<T>(
  all: readonly T[],
  labelsOf: (one: T) => Labels,
  truthOf: (group: T[]) => Truth,
): Values {
  const found = new Map<string, T[]>();
  for (const one of all) {
    const key = keyOf(labelsOf(one));
    const group = found.get(key);
    if (group === undefined) found.set(key, [one]);
    else group.push(one);
  }
  return Object.fromEntries(Array.from(found, ([key, group]) => [key, truthOf(group)]));
}

export const size = (group: readonly unknown[]): number => group.length;

export const shareOf =
  <T>(isOne: (one: T) => boolean) =>
  (group: readonly T[]): number =>
    group.filter(isOne).length / group.length;

export const sum = <T>(group: readonly T[], numberOf: (one: T) => number): number =>
  group.reduce((total, one) => total + numberOf(one), 0);

/** Between two scrapes nothing is guessed but for the millisecond that a range has more. */
const SHARE = 0.001;

/** @param seconds between the two scrapes @returns what is wrong */
export function falseValues(
  truth: Extract<QueryTruth, { of: Values }>,
  answer: readonly VectorElement[],
  seconds: number,
): string[] {
  const values = new Map(
    answer.map(({ metric, value }) => [keyOf(metric), truth.per === 'second' ? value * seconds : value]),
  );
  const wrong: string[] = [];
  for (const [key, expected] of Object.entries(truth.of)) {
    const said = complaint(expected, values.get(key) ?? 0, SHARE);
    if (said !== undefined) wrong.push(`{${key}}: ${said}`);
  }
  for (const [key, value] of values) {
    if (key in truth.of || (truth.per !== 'alert' && (value === 0 || Number.isNaN(value)))) continue;
    wrong.push(`{${key}}: ${value}, and nothing is true`);
  }
  return wrong;
}
