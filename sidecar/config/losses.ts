/**
 * Refuses a new configuration file that loses protection of the one in use by accident: a file that was emptied, or
 * truncated at the end of a line, is still valid YAML, and would silently remove TLS and the clusters. Pure.
 *
 * | missing from the file                      | removed on purpose by                                     |
 * | ------------------------------------------ | --------------------------------------------------------- |
 * | TLS, its authorities and its allow lists   | `off` in their place                                      |
 * | a limit, a budget, a scope of callers      | its value written out (0), or a file with an end marker   |
 * | a cluster                                  | `NAME: off`, or a file with an end marker                 |
 * | any other section or list                  | a file with an end marker                                 |
 * | everything                                 | nothing                                                   |
 *
 * A file has an end marker if its last line is `...` (YAML 1.2, section 9.1.2), or if it is one `{…}`, like JSON.
 */
import { isCut } from './cut-file.ts';
import { formatPath, type Path, type Problem } from './problems.ts';
import { isSection, type Section, valueAt } from './raw-values.ts';

/** The part of a configuration, before defaults, that the judgement of losses needs. */
export interface Given {
  /** The file's text, and the file's path. */
  readonly text: string;
  readonly source: string;
  /** The file's values. */
  readonly file: unknown;
  /** The file's values, with those of the environment and the flags. */
  readonly value: unknown;
  /** Whether the text has an end marker. */
  readonly isWhole: boolean;
}

const OFF = 'off';
const CLUSTERS: readonly string[] = ['outbound', 'clusters'];
const CLUSTER: readonly string[] = [...CLUSTERS, '*'];
const DOTS = 'end the file with a line of three dots (...), which marks it as complete';

/** Keys that protect something; `*` matches any name. Outer keys come before inner ones. */
const GUARDS: readonly (readonly string[])[] = [
  ['inbound', 'tls'],
  ['inbound', 'tls', 'client_ca'],
  ['inbound', 'tls', 'allow_identities'],
  [...CLUSTER, 'tls'],
  [...CLUSTER, 'tls', 'ca'],
  [...CLUSTER, 'tls', 'allow_identities'],
  ['inbound', 'token_budget', 'allow_identities'],
  ['bus', 'tls'],
  ['bus', 'tls', 'ca'],
  ['bus', 'encrypt_key_file'],
];
/** Values that protect more than their defaults do, each with the value that protects least. */
const LIMITS: readonly (readonly [path: readonly string[], open: string])[] = [
  [['inbound', 'rate_limit', 'calls_per_second'], '0'],
  [['inbound', 'max_timeout'], '0s'],
  [['inbound', 'tasks', 'scope_headers'], '[x-api-key, cookie]'],
  [['inbound', 'token_budget', 'from'], 'anyone'],
  [[...CLUSTER, 'max_timeout'], '0s'],
  [['llm', 'limits', 'requests_per_minute'], '0'],
  [['llm', 'limits', 'tokens_per_minute'], '0'],
  [['llm', 'limits', 'tokens_per_task'], '0'],
];
/** The paths that accept `off`; `*` matches any name. */
export const OFF_PATHS: readonly (readonly string[])[] = [...GUARDS, CLUSTER];

/** The values without the guards and clusters that are `off`: the rest of the code never sees those. */
export function withoutOff(value: unknown): unknown {
  let kept = value;
  for (const path of OFF_PATHS.flatMap((pattern) => places(value, pattern)))
    if (valueAt(kept, path) === OFF) kept = removed(kept, path);
  return kept;
}

/** Why `next` can't replace `before`; empty when it can. */
export function lossesOf(before: Given, next: Given): Problem[] {
  if (isEmpty(next.file) && !isEmpty(before.file))
    return [
      problem(
        next,
        [],
        'has no settings, and the configuration in use has some',
        'write them; the old ones stay',
      ),
    ];
  const losses = lostGuards(before, next);
  if (next.isWhole) return losses;
  losses.push(...lostLimits(before, next));
  const gone = lostSections(before.file, next.file, [], 2);
  // Otherwise the loss of the section around them is reported.
  if (isSection(valueAt(next.file, CLUSTERS)))
    gone.push(...lostSections(before.file, next.file, CLUSTERS, 1));
  for (const path of gone) {
    const isCluster = path.length === 3;
    const off = isCluster ? `write "${path[2]}: ${OFF}", or ` : '';
    losses.push(problem(next, path, 'is missing from the file', `if you intend that, ${off}${DOTS}`));
  }
  if (losses.length === 0 && isCut(before, next))
    losses.push(
      problem(
        next,
        [],
        'looks truncated: the file in use continues after its last line',
        `if you intend that, ${DOTS}`,
      ),
    );
  return losses;
}

function lostGuards(before: Given, next: Given): Problem[] {
  const lost: Path[] = [];
  for (const guard of GUARDS)
    for (const path of places(before.value, guard)) {
      if (!isSet(valueAt(before.value, path)) || isSet(valueAt(next.value, path))) continue;
      // The section around it is reported, or was removed by `off`.
      const around = path.slice(0, -1);
      const isSaid = valueAt(next.value, path) === OFF;
      const isAround = guard.length > 2 && !isSection(valueAt(next.value, around));
      if (!isSaid && !isAround) lost.push(path);
    }
  return lost.map((path) =>
    problem(
      next,
      path,
      'is missing, and calls would go without it',
      `if you intend that, write "${path.at(-1)}: ${OFF}"`,
    ),
  );
}

function lostLimits(before: Given, next: Given): Problem[] {
  return LIMITS.flatMap(([limit, open]) =>
    places(before.value, limit)
      .filter((path) => {
        const [was, is] = [valueAt(before.value, path), valueAt(next.value, path)];
        const isOpen = !isSet(was) || /^0(ms|s|m|h)?$/.test(String(was)) || was === open;
        // The section around it is reported itself.
        return (
          !isOpen && (is === undefined || is === null) && isSection(valueAt(next.value, path.slice(0, -1)))
        );
      })
      .map((path) => {
        const remedy = `if you intend that, write "${path.at(-1)}: ${open}", or ${DOTS}`;
        return problem(next, path, 'is missing, and its default protects less', remedy);
      }),
  );
}

function isSet(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  return value !== undefined && value !== null && value !== OFF;
}

/** Sections and lists, down to a depth, that were not empty before and are missing now. */
function lostSections(before: unknown, next: unknown, path: Path, depth: number): Path[] {
  const section = valueAt(before, path);
  if (!isSection(section)) return [];
  return Object.entries(section).flatMap(([key, value]) => {
    const inner = [...path, key];
    if (typeof value !== 'object' || isEmpty(value) || isGuard(inner)) return [];
    const now = valueAt(next, inner);
    // A key whose lines were cut off is present, and null.
    if (now === undefined || now === null) return [inner];
    return depth > 1 ? lostSections(before, next, inner, depth - 1) : [];
  });
}

function isGuard(path: Path): boolean {
  return GUARDS.some((guard) => guard.length === path.length && matches(path, guard));
}

function matches(path: Path, guard: readonly string[]): boolean {
  return guard.every((step, index) => step === '*' || step === path[index]);
}

/** The paths of a value that match a pattern. */
function places(value: unknown, pattern: readonly string[]): Path[] {
  let paths: Path[] = [[]];
  for (const step of pattern)
    paths = paths.flatMap((path) => {
      const section = valueAt(value, path);
      if (!isSection(section)) return [];
      return step === '*' ? Object.keys(section).map((key) => [...path, key]) : [[...path, step]];
    });
  return paths;
}

function removed(root: unknown, path: Path): unknown {
  const [step, ...rest] = path;
  const { [String(step)]: inner, ...others } = root as Section;
  return rest.length === 0 ? others : { ...(root as Section), [String(step)]: removed(inner, rest) };
}

function isEmpty(value: unknown): boolean {
  return value === null || value === undefined || Object.keys(value as object).length === 0;
}

function problem({ source }: Given, path: Path, message: string, remedy: string): Problem {
  return { path: formatPath(path), source, line: undefined, column: undefined, message, remedy };
}
