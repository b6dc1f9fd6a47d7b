/**
 * Writes `schema.json`, the JSON Schema of the configuration file for editors and other tools:
 * `node sidecar/config/generate-schema.ts`. A test checks that it matches the schema.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as z from 'zod';
import { OFF_PATHS } from './losses.ts';
import { schema } from './schema.ts';

interface Node {
  type?: string | string[];
  pattern?: string;
  properties?: Record<string, Node>;
  additionalProperties?: Node;
}

/** Allows `off` in the place of each section that it removes; no other text is valid there (`losses.ts`). */
function allowOff(root: Node): void {
  for (const path of OFF_PATHS) {
    let node: Node | undefined = root;
    for (const step of path) node = step === '*' ? node?.additionalProperties : node?.properties?.[step];
    if (typeof node?.type !== 'string' || node.type === 'string') continue;
    node.type = [node.type, 'string'];
    node.pattern = '^off$';
  }
}

/** The text of `schema.json`. */
export function jsonSchemaText(): string {
  const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input' });
  allowOff(rest as unknown as Node);
  const title = 'Outrigger configuration';
  return `${JSON.stringify({ $schema, title, ...rest }, null, 2)}\n`;
}

if (import.meta.main) {
  writeFileSync(fileURLToPath(new URL('schema.json', import.meta.url)), jsonSchemaText());
}
