// Comparisons within one round, in which other work on the machine disturbs all targets alike.
import { rowOf, type SectionResult, type SectionRow } from './results.ts';
import { type Summary, summarize } from './statistics.ts';

/** Ratios within each round; of the medians if rounds are missing. */
export function ratioOfRounds(
  row: SectionRow | undefined,
  base: SectionRow | undefined,
  measure: string,
): Summary | undefined {
  const [ours, theirs] = [row?.values[measure] ?? [], base?.values[measure] ?? []];
  if (ours.length === 0 || theirs.length === 0) return undefined;
  if (ours.length === theirs.length) return summarize(ours.map((value, round) => value / theirs[round]!));
  return summarize([summarize(ours).median / summarize(theirs).median]);
}

/** The time that a proxy adds to a direct call. */
export function addedOfRounds(
  result: SectionResult | undefined,
  target: string,
  measure: string,
): Summary | undefined {
  const [through, direct] = [
    rowOf(result, target)?.values[measure] ?? [],
    rowOf(result, 'direct')?.values[measure] ?? [],
  ];
  if (through.length === 0 || direct.length === 0) return undefined;
  if (through.length === direct.length)
    return summarize(through.map((value, round) => value - direct[round]!));
  return summarize([summarize(through).median - summarize(direct).median]);
}
