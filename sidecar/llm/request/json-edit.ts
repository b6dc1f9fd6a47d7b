/**
 * Changes top-level values of a JSON object in its bytes, and leaves every other byte as it was: a parser and a writer
 * would lose long numbers, duplicate keys and white space. Pure.
 */
import { type Body, viewsOf } from '../shared/body.ts';
import type { JsonScan } from './json-scan.ts';

/**
 * Returns the body with other values for top-level keys, or with the pairs added in front where it lacks the key. The
 * bytes between are views of the body's own.
 *
 * @param scan the scan of this body, which looked for the keys of `changes`
 * @param changes new values as JSON, by key
 */
export function withTopLevel(body: Body, scan: JsonScan, changes: ReadonlyMap<string, string>): Body {
  if (changes.size === 0) return body;
  const splices: { start: number; end: number; text: string }[] = [];
  const added: string[] = [];
  for (const [key, json] of changes) {
    const ranges = scan.fields.get(key)?.ranges ?? [];
    if (ranges.length === 0) added.push(`${JSON.stringify(key)}:${json}`);
    // Of two equal keys some servers take the first and some the last.
    for (const { start, end } of ranges) splices.push({ start, end, text: json });
  }
  if (added.length > 0) {
    const text = added.join() + (scan.isEmpty ? '' : ',');
    splices.push({ start: scan.openEnd, end: scan.openEnd, text });
  }
  splices.sort((a, b) => a.start - b.start);
  const parts: Buffer[] = [];
  let at = 0;
  for (const { start, end, text } of splices) {
    parts.push(...viewsOf(body, at, start), Buffer.from(text));
    at = end;
  }
  parts.push(...viewsOf(body, at, body.bytes));
  return { parts, bytes: parts.reduce((sum, { length }) => sum + length, 0) };
}
