/** Injects the sidecar into YAML manifests, and keeps their comments and layout. */
import { isDeepStrictEqual } from 'node:util';
import { Document, isMap, isNode, isSeq, type ParsedNode, parseDocument, type Tags } from 'yaml';
import { TypedError } from '../../errors/typed-error.ts';
import { at, isObject, type Json, type JsonObject, objectAt, stringAt } from './json.ts';
import { jsonPatch, type PatchOperation, pathSegments } from './json-patch.ts';
import { type InjectedPod, retargeted } from './service-retarget.ts';
import { namespaceOf, surroundingsIn } from './surroundings.ts';
import { injectObject, type WorkloadContext, type WorkloadReport } from './workloads.ts';

/** A document that is not valid YAML; the message names its line in the whole text. */
export class ManifestError extends TypedError {
  override readonly name = 'ManifestError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
}

/**
 * YAML 1.1 as Kubernetes' own parser accepts it, including `0644` and `yes`; without types that JSON lacks, and without
 * sexagesimal numbers, which that parser does not support either.
 */
const YAML_OPTIONS = {
  schema: 'yaml-1.1',
  merge: true,
  logLevel: 'silent',
  customTags: (tags: Tags) =>
    tags.filter(
      (tag) =>
        typeof tag === 'string' ||
        ((tag as { format?: string }).format !== 'TIME' &&
          !/:(timestamp|binary|omap|pairs|set)$/.test(tag.tag)),
    ),
} as const;

/** More alias expansions than this are an attack or a mistake ("billion laughs"). */
const MAX_ALIASES = 1_000;

/**
 * Injects the sidecar into every workload of a YAML (or JSON) text with any number of documents. A document without a
 * workload stays byte for byte; a changed document keeps its comments and the order of its keys. Throws
 * {@link ManifestError}.
 */
export function injectManifests(
  text: string,
  context: Omit<WorkloadContext, 'around'>,
): { text: string; reports: WorkloadReport[] } {
  let line = 1;
  const parts = splitDocuments(text).map(({ marker, body }) => {
    const markerLines = linesOf(marker);
    const part = { marker, body, ...readDocument(body, line + markerLines) };
    line += markerLines + linesOf(body);
    return part;
  });
  const around = surroundingsIn(parts.map(({ value }) => value));
  const results = parts.map(({ value }) => injectObject(value, { ...context, around }));
  const reports = results.flatMap((result) => result.reports);
  const pods = reports.flatMap(injectedPods);
  const written = parts.map(({ marker, body, document, value }, index) => {
    const after = withServices(results[index]!.object, pods);
    return (
      marker + (after === value || document === undefined ? body : rewritten(document, body, value, after))
    );
  });
  return { text: written.join(''), reports };
}

function injectedPods({ namespace, injection }: WorkloadReport): InjectedPod[] {
  if (injection.outcome !== 'injected') return [];
  const metadata = objectAt(injection.pod, 'metadata');
  const spec = objectAt(injection.pod, 'spec');
  return [{ labels: objectAt(metadata, 'labels'), namespace: namespace ?? namespaceOf(injection.pod), spec }];
}

/** The object with its annotated Services changed: a Service, or a List with some. */
function withServices(object: Json, pods: readonly InjectedPod[]): Json {
  if (!isObject(object)) return object;
  const items = at(object, 'items');
  const kind = stringAt(object, 'kind');
  if (kind === 'Service' && stringAt(object, 'apiVersion') === 'v1') return retargeted(object, pods);
  if (!kind?.endsWith('List') || !Array.isArray(items)) return object;
  const isService = (item: JsonObject): boolean =>
    (item['kind'] ?? kind.slice(0, -'List'.length)) === 'Service';
  const changed = (items as readonly Json[]).map((item) =>
    isObject(item) && isService(item) ? retargeted(item, pods) : item,
  );
  return changed.every((item, index) => item === items[index]) ? object : { ...object, items: changed };
}

interface Slice {
  /** The separator line before it, unchanged; empty for the first document. */
  readonly marker: string;
  readonly body: string;
}

/** A line that begins with `---` separates documents everywhere (YAML 1.2, section 9.1.2). */
function splitDocuments(text: string): Slice[] {
  const slices: Slice[] = [];
  let marker = '';
  let from = 0;
  for (const match of text.matchAll(/^---(?=[ \t\r\n]|$)[^\n]*(?:\n|$)/gm)) {
    slices.push({ marker, body: text.slice(from, match.index) });
    // Text after the marker, other than a comment, belongs to the document.
    const onlyMarker = /^---[ \t]*(#[^\n]*)?\r?\n?$/.test(match[0]);
    marker = onlyMarker ? match[0] : '---';
    from = match.index + marker.length;
  }
  slices.push({ marker, body: text.slice(from) });
  return slices;
}

function linesOf(text: string): number {
  return text.split('\n').length - 1;
}

/** A document that has nothing in it has no `document`. */
function readDocument(
  text: string,
  firstLine: number,
): { document: Document<ParsedNode> | undefined; value: Json } {
  if (text.trim() === '') return { document: undefined, value: null };
  const document = parseDocument(text, YAML_OPTIONS);
  const [error] = document.errors;
  if (error !== undefined) {
    const line = firstLine + (error.linePos?.[0].line ?? 1) - 1;
    throw new ManifestError(`line ${line}: ${error.message.split(' at line ')[0]}`);
  }
  return { document: document as Document<ParsedNode>, value: toJson(document, firstLine) };
}

function toJson(document: Document, firstLine: number): Json {
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES }) as Json;
  } catch (error) {
    throw new ManifestError(`line ${firstLine}: ${(error as Error).message}`);
  }
}

/** Changes the document in place, to keep its comments; if aliases or merges prevent that, writes it anew. */
function rewritten(document: Document<ParsedNode>, text: string, before: Json, after: Json): string {
  const options = { lineWidth: 0, indentSeq: !/^( *)[\w"']+:[^\n]*\n\1- /m.test(text) };
  for (const operation of jsonPatch(before, after)) applyTo(document, operation);
  let result: Document = document;
  try {
    if (!isDeepStrictEqual(plain(document.toJS()), plain(after))) result = anew(document, after);
  } catch {
    result = anew(document, after);
  }
  const written = result.toString(options);
  return text.endsWith('\n') ? written : written.replace(/\n$/, '');
}

function anew(document: Document, contents: Json): Document {
  const written = new Document(contents, { ...YAML_OPTIONS, aliasDuplicateObjects: false });
  // Only the first comment survives: the others belonged to nodes that no longer exist.
  written.commentBefore = document.commentBefore;
  const first = isMap(document.contents) ? document.contents.items[0]?.key : undefined;
  if (isNode(first) && written.contents !== null)
    written.contents.commentBefore = first.commentBefore ?? null;
  return written;
}

function applyTo(document: Document, { op, path, value }: PatchOperation): void {
  const keys = pathSegments(path).map((key) => (/^\d+$/.test(key) ? Number(key) : key));
  try {
    if (op === 'remove') document.deleteIn(keys);
    else if (keys.at(-1) === '-') {
      const list = document.getIn(keys.slice(0, -1));
      if (isSeq(list)) list.add(document.createNode(value));
    } else if (Array.isArray(value) && keys.at(-1) === 'initContainers') {
      insert(document, keys, value);
    } else {
      // A scalar replaces the value of the existing node, which keeps its comment.
      document.setIn(keys, typeof value === 'object' ? document.createNode(value) : value);
    }
  } catch {
    // The comparison with the expected result detects a failure.
  }
}

/** Inserts into a list at one place, so that its other nodes keep their comments. */
function insert(document: Document, keys: readonly (string | number)[], value: readonly Json[]): void {
  const list = document.getIn(keys);
  const before = isSeq(list) ? list.items.length : 0;
  if (!isSeq(list) || before > value.length) {
    document.setIn(keys, document.createNode(value));
    return;
  }
  const same = (item: unknown, index: number): boolean =>
    isNode(item) && isDeepStrictEqual(plain(item.toJS(document)), plain(value[index]));
  const changed = list.items.findIndex((item, index) => !same(item, index));
  const place = changed === -1 ? before : changed;
  const fresh = value.slice(place, place + value.length - before).map((item) => document.createNode(item));
  // A comment in front of the list belongs to its first item.
  const [first] = list.items as { commentBefore?: string | null }[];
  if (place === 0 && first !== undefined && list.commentBefore) {
    first.commentBefore = [list.commentBefore, first.commentBefore].filter(Boolean).join('\n');
    list.commentBefore = null;
  }
  (list.items as unknown[]).splice(place, 0, ...fresh);
}

/** Removes prototypes and special types, so that only the contents are compared. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value ?? null));
}
