/** Looks up places in the schema by path, and lists its settings. */
import * as z from 'zod';
import { kinds } from '../settings/kinds.ts';
import type { Path } from './problems.ts';

/** The kind of value at a place in the configuration. */
export type Place =
  | { readonly kind: 'section'; readonly keys: readonly string[] }
  | { readonly kind: 'map' }
  | { readonly kind: 'list' }
  | { readonly kind: 'text' | 'number' | 'boolean'; readonly form: string; readonly nullable: boolean };

/** The schema at `path`, or `undefined` when the schema has no such place. */
export function placeAt(root: z.ZodType, path: Path): Place | undefined {
  const schema = schemaAt(root, path);
  if (schema === undefined) return undefined;
  const { bare, nullable } = unwrap(schema);
  if (bare instanceof z.ZodObject) return { kind: 'section', keys: Object.keys(bare.shape) };
  if (bare instanceof z.ZodRecord) return { kind: 'map' };
  if (bare instanceof z.ZodArray) return { kind: 'list' };
  const form = kinds.get(bare)?.form ?? 'another value';
  if (bare instanceof z.ZodBoolean) return { kind: 'boolean', form, nullable };
  if (bare instanceof z.ZodNumber) return { kind: 'number', form, nullable };
  return { kind: 'text', form, nullable };
}

function schemaAt(root: z.ZodType, path: Path): z.ZodType | undefined {
  let schema: z.ZodType | undefined = root;
  for (const step of path) {
    const { bare }: { bare: z.ZodType } = unwrap(schema);
    if (bare instanceof z.ZodObject) {
      schema = Object.hasOwn(bare.shape, step) ? (bare.shape[step as string] as z.ZodType) : undefined;
    } else if (bare instanceof z.ZodRecord) {
      schema = bare.valueType as z.ZodType;
    } else if (bare instanceof z.ZodArray) {
      schema = bare.element as z.ZodType;
    } else {
      schema = undefined;
    }
    if (schema === undefined) return undefined;
  }
  return schema;
}

/** Removes defaults, "optional" and "or null". */
function unwrap(schema: z.ZodType): { bare: z.ZodType; nullable: boolean } {
  let nullable = false;
  let bare = schema;
  while (
    bare instanceof z.ZodDefault ||
    bare instanceof z.ZodPrefault ||
    bare instanceof z.ZodOptional ||
    bare instanceof z.ZodNullable
  ) {
    nullable ||= bare instanceof z.ZodNullable;
    bare = bare.unwrap() as z.ZodType;
  }
  return { bare, nullable };
}

/**
 * Every path that an environment variable or a flag can set. `namesAt` gives the entries of a map (the existing
 * clusters) to descend into.
 */
export function* settablePaths(
  root: z.ZodType,
  namesAt: (path: Path) => readonly string[],
  path: Path = [],
): Generator<Path> {
  const place = placeAt(root, path);
  if (path.length > 0) yield path;
  if (place?.kind === 'section') {
    for (const key of place.keys) yield* settablePaths(root, namesAt, [...path, key]);
  } else if (place?.kind === 'map') {
    for (const name of namesAt(path)) yield* settablePaths(root, namesAt, [...path, name]);
  }
}
