/** Accessors for JSON of unknown origin. */
import { isObject, type Json, type JsonObject } from '../../node/json.ts';

export { isObject, type Json, type JsonObject };

/** The object under a key, or an empty one: an absent value, null and a value of another type all count as not given. */
export function objectAt(value: unknown, key: string): JsonObject {
  const inner = at(value, key);
  return isObject(inner) ? inner : {};
}

/** The objects of the list under a key; other items are skipped. */
export function objectsAt(value: unknown, key: string): readonly JsonObject[] {
  const inner = at(value, key);
  return Array.isArray(inner) ? inner.filter(isObject) : [];
}

export function stringAt(value: unknown, key: string): string | undefined {
  const inner = at(value, key);
  return typeof inner === 'string' ? inner : undefined;
}

export function numberAt(value: unknown, key: string): number | undefined {
  const inner = at(value, key);
  return typeof inner === 'number' ? inner : undefined;
}

/** The value of an own key; never an inherited one, such as `constructor`. */
export function at(value: unknown, key: string): Json | undefined {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}
