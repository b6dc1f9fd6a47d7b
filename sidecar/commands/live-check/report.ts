/** The report of `outrigger check --live`, as text and as JSON. */
import { type Finding, formatPath, type Problem } from '../../config/problems.ts';
import { clean } from '../table.ts';
import type { LiveResult } from './finding.ts';

/** A result with its place in the file. */
interface PlacedResult {
  readonly level: LiveResult['level'];
  readonly path: string;
  readonly source: string;
  readonly line: number | null;
  readonly column: number | null;
  readonly target: string;
  readonly message: string;
  readonly remedy: string;
}

export interface LiveReport {
  readonly ok: boolean;
  readonly results: readonly PlacedResult[];
  /** What was sent beside connections and health checks. */
  readonly sent: readonly string[];
}

/** Of what the cluster has, and no setting. */
const NOWHERE = { source: '', line: undefined, column: undefined };

/** @param warnings of the configuration itself, which the report repeats */
export function reportOf(
  results: readonly LiveResult[],
  warnings: readonly Problem[],
  locate: (finding: Finding) => Problem,
): LiveReport {
  const placed = results.map(({ level, path, target, message, remedy }): PlacedResult => {
    const place = path.length === 0 ? NOWHERE : locate({ path, part: 'value', message, remedy });
    const { source, line, column } = place;
    return {
      level,
      path: formatPath(path),
      source,
      line: line ?? null,
      column: column ?? null,
      target,
      message,
      remedy,
    };
  });
  const told = warnings.map(({ path, source, line, column, message, remedy }): PlacedResult => {
    return {
      level: 'warning',
      path,
      source,
      line: line ?? null,
      column: column ?? null,
      target: '',
      message,
      remedy,
    };
  });
  return {
    ok: !results.some(({ level }) => level === 'problem'),
    results: [...placed, ...told],
    sent: results.flatMap(({ sent }) => (sent === undefined ? [] : [sent])),
  };
}

export function textOf({ results, sent }: LiveReport): string {
  const lines = results.flatMap(({ level, path, source, line, column, target, message, remedy }) => {
    const where = level === 'ok' || line === null ? '' : `${source}:${line}:${column}: `;
    const what = `${[path, target].filter((part) => part !== '').join(' ')}: ${message}`;
    const said = clean(`${level.padEnd(8)}${where}${what}`);
    return remedy === '' ? [said] : [said, `        ${clean(remedy)}`];
  });
  for (const request of sent) lines.push(`sent    ${clean(request)}`);
  const count = (level: string): number => results.filter((result) => result.level === level).length;
  return [...lines, `${counted(count('problem'), 'problem')}, ${counted(count('warning'), 'warning')}`].join(
    '\n',
  );
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
