/** Problems with a configuration, each with its remedy, and how messages show them. */

/** The keys and list positions from the root of the configuration to a setting. */
export type Path = readonly (string | number)[];

export interface Problem {
  /** `outbound.clusters.writing.timeout`, `outbound.routes[0].cluster`; empty for the whole file. */
  readonly path: string;
  /** The file's path, or the name of the environment variable or flag. */
  readonly source: string;
  /** From 1; `undefined` when the source is not a file, or the file could not be read. */
  readonly line: number | undefined;
  readonly column: number | undefined;
  readonly message: string;
  readonly remedy: string;
}

/** A problem whose value has no known source yet. */
export interface Finding {
  readonly path: Path;
  /** The part that a message points at, when the path is in a file. */
  readonly part: 'key' | 'value';
  readonly message: string;
  readonly remedy: string;
}

/** Formats a path for messages. */
export function formatPath(path: Path): string {
  return path.reduce<string>((done, step) => {
    if (typeof step === 'number') return `${done}[${step}]`;
    return done === '' ? step : `${done}.${step}`;
  }, '');
}

/** Two lines: the place and the problem, then the remedy. */
export function formatProblem({ path, source, line, column, message, remedy }: Problem): string {
  const where = line === undefined ? source : `${source}:${line}:${column}`;
  return `${where}: ${path === '' ? '' : `${path}: `}${message}\n    ${remedy}`;
}

/** The same for a log, where a message has one line. */
export function formatOnOneLine(problem: Problem): string {
  return formatProblem(problem).replace('\n    ', '; ');
}

const SHOWN_CHARACTERS = 60;

/** Formats a value for a message: quoted, on one line, cut when long, and masked if it may be a secret. */
export function showValue(path: Path, value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (value === null) return 'null (nothing)';
  if (typeof value === 'object') return 'a section';
  if (typeof value !== 'string') return `the ${typeof value} ${String(value).slice(0, SHOWN_CHARACTERS)}`;
  if (value === '') return 'an empty text';
  if (mayBeSecret(path, value)) return 'the text given';
  const cut = value.length > SHOWN_CHARACTERS ? `${value.slice(0, SHOWN_CHARACTERS)}…` : value;
  return JSON.stringify(cut);
}

/** Operators sometimes paste a key where the name of a variable or a file belongs. */
function mayBeSecret(path: Path, value: string): boolean {
  const setting = path.findLast((step) => typeof step === 'string') ?? '';
  return (
    /^(?:url|key|cert|api_key_env)$|secret|token|password/i.test(String(setting)) ||
    /-----BEGIN|^sk-/.test(value)
  );
}

/** The candidate that `word` misspells or abbreviates. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - word.length) >= bestDistance) continue;
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  if (best !== undefined || word.length < 3) return best;
  return [...candidates].find((candidate) => candidate.startsWith(word) || word.startsWith(candidate));
}

/** The number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = a[i - 1] === b[j - 1] ? 0 : 1;
      let cost = Math.min(row[j - 1]! + 1, last[j]! + 1, last[j - 1]! + change);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, beforeLast[j - 2]! + 1);
      }
      row.push(cost);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length]!;
}
