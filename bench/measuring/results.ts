// The results: a file for each section, so that a run can repeat one section.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Summary, summarize } from './statistics.ts';

export interface SectionRow {
  target: string;
  /** The variant of this row; empty if the section has none. */
  variant: string;
  /** Of each measure the values of all rounds, in their order. */
  values: Record<string, number[]>;
  /** Why it was not measured. */
  missing?: string;
  /** The failures of its measurement. */
  failures?: string[];
}

export interface SectionResult {
  section: string;
  at: string;
  commit: string | undefined;
  processor: string;
  cores: number;
  kernel: string;
  node: string;
  /** The build of the sidecar: its sources, or the bundle as the image runs it. */
  build: 'sources' | 'image';
  /** Load average of the machine: well above 0 before it began, and the figures are somebody else's, too. */
  loadBefore: number;
  loadAfter?: number;
  rounds: number;
  seconds: number;
  rows: SectionRow[];
}

/** Of full runs, which the documents cite; those of quick and partial ones are beside them. */
export const resultsFolder = join(import.meta.dirname, '..', 'results');
export const quickFolder = join(resultsFolder, 'quick');

export function readResult(section: string, folder = resultsFolder): SectionResult | undefined {
  const path = join(folder, `${section}.json`);
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as SectionResult) : undefined;
}

export function writeResult(result: SectionResult, folder = resultsFolder): string {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${result.section}.json`);
  // We write a new file and rename it, so that an interrupted run keeps the old file.
  writeFileSync(`${path}.tmp`, `${JSON.stringify(result, null, 1)}\n`);
  renameSync(`${path}.tmp`, path);
  return path;
}

export function rowOf(
  result: SectionResult | undefined,
  target: string,
  variant = '',
): SectionRow | undefined {
  return result?.rows.find((row) => row.target === target && row.variant === variant);
}

export function summaryOf(row: SectionRow | undefined, measure: string): Summary | undefined {
  const values = row?.values[measure];
  return values === undefined || values.length === 0 ? undefined : summarize(values);
}
