/** Finds what a request names of things that an upstream stores: a file, a batch, a cached prompt, a stored response. Pure. */
import type { Body } from '../shared/body.ts';
import { decoded } from '../shared/provider-credentials.ts';
import type { ModelRequest } from './model-request.ts';

/** Collections of things that an upstream stores, as paths name them. */
const COLLECTIONS: ReadonlySet<string> = new Set([
  'assistants',
  'batches',
  'cachedContents',
  'containers',
  'conversations',
  'evals',
  'files',
  'jobs',
  'responses',
  'threads',
  'uploads',
  'vector_stores',
]);
/** What stands behind such a name without being an id. */
const WORDS: ReadonlySet<string> = new Set(['compact', 'input_tokens']);
const OPENAI_ID = /^[a-z]+[_-][\w-]+$/i;

/** Returns the ids in the path of a request; a name of Gemini's has its collection in it. */
export function idsInPath({ asked }: Pick<ModelRequest, 'asked'>): readonly string[] {
  const segments = decoded(asked.path.split('?', 1)[0]!).split('/');
  const ids: string[] = [];
  for (let at = 0; at + 1 < segments.length; at++) {
    const [collection, id] = [segments[at]!, segments[at + 1]!.replace(/:\w+$/, '')];
    if (!COLLECTIONS.has(collection) || id === '' || WORDS.has(id)) continue;
    if (asked.api === 'gemini') ids.push(`${collection}/${id}`);
    else if (OPENAI_ID.test(id)) ids.push(id);
  }
  return ids;
}

/** How the fields begin whose values are such ids. */
const MARKERS = [
  '"file',
  '_file_id"',
  '"cachedContent"',
  '"container"',
  '"conversation"',
  '"vector_store_ids"',
  '"training_file"',
];
/** A field with one id, an object with one, or a list of them. */
const FIELD = /^"?[\w]+"\s*:\s*(?:\[\s*)?(?:\{\s*"id"\s*:\s*)?((?:"[^"\\]{3,300}"\s*,?\s*){1,16})/;
const VALUE = /"([^"\\]{3,300})"/g;
const REACH = 1_024;
const MAX_FOUND = 64;

/** Returns the values of fields that may be ids; most are none, and only known ones count. */
export function idsInBody(body: Body): readonly string[] {
  const [first] = body.parts;
  // Uploads are no JSON, and name nothing.
  if (first === undefined || first.toString('latin1', 0, 64).trimStart()[0] !== '{') return [];
  const ids: string[] = [];
  let tail: Buffer | undefined;
  for (const part of body.parts) {
    // A field may lie across two parts.
    if (tail !== undefined) find(Buffer.concat([tail, part.subarray(0, REACH)]), ids);
    find(part, ids);
    tail = part.subarray(Math.max(0, part.length - REACH));
  }
  return ids;
}

function find(bytes: Buffer, ids: string[]): void {
  for (const marker of MARKERS) {
    let at = bytes.indexOf(marker);
    for (; at >= 0 && ids.length < MAX_FOUND; at = bytes.indexOf(marker, at + 1)) {
      // Within a text the quotation mark is escaped.
      if (marker[0] === '"' && at > 0 && bytes[at - 1] === 0x5c) continue;
      const list = FIELD.exec(bytes.toString('latin1', at, at + REACH))?.[1] ?? '';
      for (const [, value] of list.matchAll(VALUE)) ids.push(/files\/[\w-]+$/.exec(value!)?.[0] ?? value!);
    }
  }
}
