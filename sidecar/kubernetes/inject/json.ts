/** JSON as it comes from outside: nothing is assumed of it until it has been looked at. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;

export interface JsonObject {
  readonly [key: string]: Json;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The object under a key, or an empty one: absent, null and of another type are all "nothing given". */
export function objectAt(value: unknown, key: string): JsonObject {
  const inner = at(value, key);
  return isObject(inner) ? inner : {};
}

/** The objects of the list under a key; anything else in it is passed over. */
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

/** What stands under an own key; never what an object inherits, `constructor` say. */
export function at(value: unknown, key: string): Json | undefined {
  return isObject(value) && Object.hasOwn(value, key) ? value[key] : undefined;
}
