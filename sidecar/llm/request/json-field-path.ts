/** Finds the values of a field that may stand in an object at the top level: `max_tokens`, `generationConfig.maxOutputTokens`. Pure. */
import { JsonScan } from './json-scan.ts';

/**
 * Returns the text of each value of a field, in the order in which they stand; undefined for one that is too long to be
 * kept.
 *
 * @returns undefined where an object around the field is none that can be read
 */
export function textsOf(scan: JsonScan, field: string): readonly (string | undefined)[] | undefined {
  const dot = field.indexOf('.');
  if (dot < 0) return scan.fields.get(field)?.texts ?? [];
  const found: (string | undefined)[] = [];
  const inner = field.slice(dot + 1);
  for (const text of scan.fields.get(field.slice(0, dot))?.texts ?? []) {
    if (text === undefined) return undefined;
    if (text === 'null') continue;
    const nested = new JsonScan(new Set([inner]));
    nested.push(Buffer.from(text));
    if (!nested.isWhole || nested.isLenient) return undefined;
    found.push(...(nested.fields.get(inner)?.texts ?? []));
  }
  return found;
}
