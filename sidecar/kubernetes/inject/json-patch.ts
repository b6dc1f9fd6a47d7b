/** Computes JSON Patches (RFC 6902). */
import { isObject, type Json, type JsonObject } from './json.ts';

/** One operation of RFC 6902; `remove` has no value. */
export interface PatchOperation {
  readonly op: 'add' | 'remove' | 'replace';
  readonly path: string;
  readonly value?: Json;
}

/**
 * The operations that turn `before` into `after` (RFC 6902): objects key by key, lists element by element, then the
 * elements added to or removed from the end. A list with a new element in front is replaced as a whole.
 */
export function jsonPatch(before: Json, after: Json, path = ''): PatchOperation[] {
  if (isObject(before) && isObject(after)) return objectPatch(before, after, path);
  if (Array.isArray(before) && Array.isArray(after) && after.length >= before.length && alike(before, after))
    return listPatch(before, after, path);
  return same(before, after) ? [] : [{ op: 'replace', path, value: after }];
}

function objectPatch(before: JsonObject, after: JsonObject, path: string): PatchOperation[] {
  const operations: PatchOperation[] = [];
  for (const key of Object.keys(before)) {
    if (!Object.hasOwn(after, key)) operations.push({ op: 'remove', path: `${path}/${escaped(key)}` });
  }
  for (const [key, value] of Object.entries(after)) {
    const inner = `${path}/${escaped(key)}`;
    if (Object.hasOwn(before, key)) operations.push(...jsonPatch(before[key]!, value, inner));
    else operations.push({ op: 'add', path: inner, value });
  }
  return operations;
}

function listPatch(before: readonly Json[], after: readonly Json[], path: string): PatchOperation[] {
  return after.flatMap((value, index) =>
    index < before.length
      ? jsonPatch(before[index]!, value, `${path}/${index}`)
      : [{ op: 'add' as const, path: `${path}/-`, value }],
  );
}

/** Whether the lists hold the same items in the same places; items with names are compared by name. */
function alike(before: readonly Json[], after: readonly Json[]): boolean {
  return before.every((value, index) => {
    const other = after[index]!;
    return isObject(value) && isObject(other) ? value['name'] === other['name'] : same(value, other);
  });
}

/** Whether two values are equal. */
export function same(one: Json, other: Json): boolean {
  if (one === other) return true;
  if (Array.isArray(one))
    return (
      Array.isArray(other) &&
      one.length === other.length &&
      one.every((value, index) => same(value, other[index]))
    );
  if (!isObject(one) || !isObject(other)) return false;
  const keys = Object.keys(one);
  return (
    keys.length === Object.keys(other).length &&
    keys.every((key) => Object.hasOwn(other, key) && same(one[key]!, other[key]!))
  );
}

/** RFC 6901, section 3. */
function escaped(key: string): string {
  return key.replaceAll('~', '~0').replaceAll('/', '~1');
}

/** The keys and indices of a path; `-` stays unchanged. */
export function pathSegments(path: string): string[] {
  return path
    .split('/')
    .slice(1)
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}
