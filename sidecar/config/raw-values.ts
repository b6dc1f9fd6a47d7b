/** Reads and changes configuration values before validation. */
import type { Path } from './problems.ts';

export type Section = Record<string, unknown>;

export function isSection(value: unknown): value is Section {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The value at `path`, or `undefined`; ignores inherited properties. */
export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const step of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Section)[step];
  }
  return value;
}

/** A copy of `root` with `value` at `path`; creates missing sections. A value that is no section stays unchanged. */
export function withValue(root: unknown, path: Path, value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  if (root !== undefined && root !== null && !isSection(root)) return root;
  const section = (root ?? {}) as Section;
  const inner = Object.hasOwn(section, step) ? section[step] : undefined;
  return { ...section, [step]: withValue(inner, rest, value) };
}

/**
 * A copy of `root` without the value at `path`. A list that would lose an item is removed whole, because its positions
 * would shift; so is a section without the key that is to be removed.
 */
export function without(root: unknown, path: Path): unknown {
  if (path.length === 0) return {};
  const parentPath = path.slice(0, -1);
  const parent = valueAt(root, parentPath);
  const key = path.at(-1)!;
  if (!isSection(parent) || !Object.hasOwn(parent, key)) return without(root, parentPath);
  const { [key]: _removed, ...rest } = parent;
  return replaceAt(root, parentPath, rest);
}

function replaceAt(root: unknown, path: Path, value: unknown): unknown {
  const [step, ...rest] = path;
  if (step === undefined) return value;
  const inner = replaceAt((root as Section)[step], rest, value);
  if (Array.isArray(root)) return root.map((item, index) => (index === step ? inner : item));
  return { ...(root as Section), [step]: inner };
}
