// Looks keys up in the schema of the configuration, for tests that hold documents to it.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Schema {
  default?: unknown;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
}

const file = join(import.meta.dirname, '..', '..', 'sidecar', 'config', 'schema.json');

/** The schema of a key such as `outbound.clusters.NAME.timeout` (or `*` for NAME); undefined if there is none. */
export function schemaOfKey(key: string): Schema | undefined {
  return at(JSON.parse(readFileSync(file, 'utf8')) as Schema, key.split('.'));
}

function at(schema: Schema, [first, ...rest]: string[]): Schema | undefined {
  if (first === undefined) return schema;
  const { properties, additionalProperties, anyOf = [] } = schema;
  const isName = (first === 'NAME' || first === '*') && typeof additionalProperties === 'object';
  const next = isName ? additionalProperties : properties?.[first];
  if (next !== undefined) return at(next, rest);
  for (const one of anyOf) {
    const found = at(one, [first, ...rest]);
    if (found !== undefined) return found;
  }
  return undefined;
}
