/** Validates raw values against the schema and reports every problem with them. */
import type * as z from 'zod';
import { type Finding, nearest, type Path, showValue } from './problems.ts';
import { isSection, type Section, valueAt, without } from './raw-values.ts';
import { findContradictions } from './relations.ts';
import { type FileConfig, schema } from './schema.ts';
import { placeAt } from './schema-paths.ts';

/** The limit of reported problems: a file with more is probably no configuration, and each check costs time. */
const MAX_FINDINGS = 100;
/** Enough to find and remove the damage of a wrong value; each round removes at least one. */
const MAX_REPAIRS = 64;

/** A compiled parser would cost more than it saves, because we validate a configuration once. */
const ONCE = { jitless: true };

/** The configuration in file form with defaults, or its problems: wrong forms and contradictions together. */
export function validate(raw: unknown): { file: FileConfig } | { findings: readonly Finding[] } {
  const value = withoutEmptySections(raw);
  const parsed = schema.safeParse(value, ONCE);
  if (parsed.success) {
    const findings = findContradictions(parsed.data);
    return findings.length === 0 ? { file: parsed.data } : { findings };
  }
  const issues = parsed.error.issues.flatMap(oneForEachKey);
  const findings = issues.slice(0, MAX_FINDINGS).map((issue) => findingOf(value, issue));
  if (issues.length > MAX_FINDINGS) {
    const message = `has ${issues.length - MAX_FINDINGS} more problems`;
    return { findings: [...findings, { path: [], part: 'value', message, remedy: 'is it the right file?' }] };
  }
  return { findings: [...findings, ...contradictionsOfTheRest(value, findings)] };
}

/**
 * A section whose lines are all commented out is null in YAML; it means an empty section. A null elsewhere stays, and
 * the schema judges it.
 */
function withoutEmptySections(raw: unknown, path: Path = []): unknown {
  if (!isSection(raw)) return raw;
  const kept: [string, unknown][] = [];
  for (const [key, value] of Object.entries(raw)) {
    const innerPath = [...path, key];
    const kind = placeAt(schema, innerPath)?.kind;
    if (value === null && (kind === 'section' || kind === 'map')) continue;
    kept.push([key, withoutEmptySections(value, innerPath)]);
  }
  return Object.fromEntries(kept);
}

/** Removes the wrong values and checks the rest for contradictions, so that one report holds both. */
function contradictionsOfTheRest(value: unknown, findings: readonly Finding[]): readonly Finding[] {
  // An earlier finding may have removed the place of a later one.
  let rest = findings.reduce<unknown>((kept, { path }) => {
    return valueAt(kept, path.slice(0, -1)) === undefined ? kept : without(kept, path);
  }, value);
  for (let round = 0; round < MAX_REPAIRS; round++) {
    const parsed = schema.safeParse(rest, ONCE);
    if (parsed.success) {
      const removed = (finding: Finding) => findings.some(({ path }) => startsWith(path, finding.path));
      return findContradictions(parsed.data).filter((finding) => !removed(finding));
    }
    rest = without(rest, parsed.error.issues[0]!.path as Path);
  }
  return [];
}

function startsWith(path: Path, start: Path): boolean {
  return start.every((step, index) => path[index] === step);
}

/** The schema library reports the unknown keys of a section as one issue; we report one for each key. */
function oneForEachKey(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => ({ ...issue, keys: [key] })) : [issue];
}

function findingOf(root: unknown, issue: z.core.$ZodIssue): Finding {
  const path = issue.path as Path;
  const value = valueAt(root, path);
  if (issue.code === 'unrecognized_keys') return unknownKey(path, issue.keys[0]!, value);
  if (issue.code === 'invalid_key') {
    const message = `${JSON.stringify(String(path.at(-1)).slice(0, 60))} can not be a name here`;
    const remedy = 'use letters, digits and . _ - : , beginning with a letter or digit';
    return { path, part: 'key', message, remedy };
  }
  const place = placeAt(schema, path);
  if (value === undefined) {
    const what = place !== undefined && 'form' in place ? place.form : 'it';
    return { path, part: 'key', message: 'is missing', remedy: `give ${what}` };
  }
  if (issue.code === 'custom') {
    const { remedy } = issue.params as { remedy: string };
    return { path, part: 'value', message: issue.message, remedy };
  }
  if (Array.isArray(value) && issue.code === 'too_small') {
    return { path, part: 'value', message: 'is an empty list', remedy: 'give at least one' };
  }
  if (Array.isArray(value) && issue.code === 'too_big') {
    return { path, part: 'value', message: 'has too many', remedy: `give at most ${issue.maximum}` };
  }
  return {
    path,
    part: 'value',
    message: `can not be ${showValue(path, value)}`,
    remedy: remedyFor(path, value),
  };
}

function unknownKey(path: Path, key: string, section: unknown): Finding {
  const place = placeAt(schema, path);
  const keys = place?.kind === 'section' ? place.keys : [];
  const unused = keys.filter((known) => !Object.hasOwn(section as Section, known));
  const close = nearest(key, unused);
  const remedy = close === undefined ? `the keys here are ${keys.join(', ')}` : `did you mean ${close}?`;
  return { path: [...path, key], part: 'key', message: 'is not a known key', remedy };
}

function remedyFor(path: Path, value: unknown): string {
  const place = placeAt(schema, path);
  if (place === undefined) return 'remove it';
  if (place.kind === 'section') return `write its keys below it: ${place.keys.join(', ')}`;
  if (place.kind === 'map') return 'write names below it, each with its settings';
  if (place.kind === 'list')
    return isSection(value) ? 'begin each entry with "- "' : 'write a list: [one, another]';
  if (place.form.startsWith('a duration') && typeof value === 'number' && value >= 0) {
    return `write the unit: ${value}s or ${value}ms`;
  }
  if (place.kind === 'text' && ['number', 'boolean'].includes(typeof value)) {
    return `write ${place.form}; quotes make a text of ${JSON.stringify(String(value))}`;
  }
  const options = place.form.startsWith('one of ') ? place.form.slice('one of '.length).split(', ') : [];
  const close = typeof value === 'string' ? nearest(value, options) : undefined;
  return close === undefined ? `write ${place.form}` : `did you mean ${close}? It is ${place.form}`;
}
