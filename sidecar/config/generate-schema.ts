/**
 * Writes `schema.json`, the JSON Schema of the configuration file for editors and other tools:
 * `node sidecar/config/generate-schema.ts`. A test holds it equal to the schema it comes from.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { schema } from './schema.ts';

/** The text of `schema.json`. */
export function jsonSchemaText(): string {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  const title = 'Outrigger configuration';
  return `${JSON.stringify({ $schema, title, ...rest }, null, 2)}\n`;
}

if (import.meta.main) {
  writeFileSync(fileURLToPath(new URL('schema.json', import.meta.url)), jsonSchemaText());
}
