/** Injects the sidecar into YAML manifests, and keeps their comments and layout. */
import { Document, isMap, isNode, type ParsedNode } from 'yaml';
import { at, isObject, type Json, type JsonObject, objectAt, stringAt } from './json.ts';
import { same } from './json-patch.ts';
import { linesOf, ManifestError, parseManifest, YAML_OPTIONS } from './manifest-document.ts';
import { type InjectedPod, retargeted } from './service-retarget.ts';
import { namespaceOf, surroundingsIn } from './surroundings.ts';
import { editText } from './text-edit.ts';
import { injectObject, isWorkload, type WorkloadContext, type WorkloadReport } from './workloads.ts';
import { styleOf } from './yaml-places.ts';

/**
 * Injects the sidecar into every workload of a YAML (or JSON) text with any number of documents. A document without a
 * workload stays byte for byte, and so does everything in a workload but what changes. Throws {@link ManifestError}.
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

/** A document that has nothing in it has no `document`. */
function readDocument(
  text: string,
  firstLine: number,
): { document: Document<ParsedNode> | undefined; value: Json } {
  if (text.trim() === '') return { document: undefined, value: null };
  try {
    const read = parseManifest(text, firstLine);
    if (isWorkload(read.value)) refuseTemplate(text, firstLine);
    return read;
  } catch (error) {
    // A template is rarely YAML, and what is wrong with it as YAML helps nobody.
    refuseTemplate(text, firstLine);
    throw error;
  }
}

/** What Helm's templates contain, and the arguments of programs that have templates of their own do not. */
const HELM =
  /\{\{-?\s*(?:[^}\n]*\.(?:Values|Release|Chart|Capabilities|Files)\b|(?:include|define|template|tpl|toYaml)\s)/;

/** A template that happens to be YAML would be injected with values that nobody means. */
function refuseTemplate(text: string, firstLine: number): void {
  const index = text.search(HELM);
  if (index < 0) return;
  const line = firstLine + linesOf(text.slice(0, index));
  throw new ManifestError(
    `line ${line}: this is a template of Helm and no manifest; render it first: helm template NAME CHART | outrigger inject`,
  );
}

/** Changes the text in place; if aliases or merges prevent that, writes the document anew. */
function rewritten(document: Document<ParsedNode>, text: string, before: Json, after: Json): string {
  const edited = editText(text, document, before, after);
  if (edited !== undefined && means(edited, after)) return edited;
  const { indentSeq, lineEnd } = styleOf(text);
  const written = anew(document, after).toString({ lineWidth: 0, indentSeq }).replaceAll('\n', lineEnd);
  return text.endsWith('\n') ? written : written.replace(/\r?\n$/, '');
}

function means(text: string, value: Json): boolean {
  try {
    return same(parseManifest(text, 1).value, value);
  } catch {
    return false;
  }
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
