/** Answers admission reviews of pods. */
import { TypedError } from '../../errors/typed-error.ts';
import { at, isObject, type Json, type JsonObject, objectAt, stringAt } from '../inject/json.ts';
import { jsonPatch } from '../inject/json-patch.ts';
import type { NoteKind } from '../inject/notes.ts';
import { type InjectContext, type Injection, injectPod } from '../inject/patch.ts';

/** The request is not an AdmissionReview; the message says why. The server answers 400. */
export class ReviewError extends TypedError {
  override readonly name = 'ReviewError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
}

export type ReviewOutcome = 'injected' | 'untouched' | 'refused';

export interface Reviewed {
  /** The AdmissionReview of the answer. */
  readonly answer: JsonObject;
  readonly outcome: ReviewOutcome;
  /** `agents/research-agent-5d4f-…`, for the log. */
  readonly pod: string;
  /** Why there is no sidecar; empty when there is one. */
  readonly because: readonly string[];
  /** What injection left as it was, and what it doubts, as `outrigger inject` reports it. */
  readonly left: readonly string[];
  readonly doubts: readonly string[];
}

const API_VERSION = 'admission.k8s.io/v1';
/** The API server may cut longer ones; the log has all. */
const MAX_WARNING_CHARS = 250;
const MAX_WARNINGS = 5;

/**
 * Answers an AdmissionReview (admission.k8s.io/v1). It always allows a pod: with the sidecar, unchanged, or unchanged
 * with a warning that says why it has no sidecar. What injection doubts becomes a warning, too, and after it what stays
 * past the sidecar. Throws {@link ReviewError}.
 */
export function review(body: unknown, context: InjectContext): Reviewed {
  const request = objectAt(body, 'request');
  const uid = stringAt(request, 'uid');
  if (stringAt(body, 'kind') !== 'AdmissionReview' || stringAt(body, 'apiVersion') !== API_VERSION)
    throw new ReviewError(`the body is not an AdmissionReview of ${API_VERSION}; send one`);
  if (uid === undefined || uid === '' || uid.length > 128) throw new ReviewError('request.uid is missing');
  const object: Json = at(request, 'object') ?? null;
  const injection = injectionOf(request, object, context);
  const metadata = objectAt(object, 'metadata');
  const name = stringAt(metadata, 'name') ?? `${stringAt(metadata, 'generateName') ?? ''}…`;
  const response = { uid, allowed: true, ...changes(object, injection) };
  return {
    answer: { apiVersion: API_VERSION, kind: 'AdmissionReview', response },
    outcome: injection.outcome,
    pod: `${stringAt(request, 'namespace') ?? ''}/${name}`.slice(0, 300),
    because: becauseOf(injection),
    left: told(injection, 'left'),
    doubts: told(injection, 'doubt'),
  };
}

function injectionOf(request: JsonObject, object: Json, context: InjectContext): Injection {
  const kind = objectAt(request, 'kind');
  const isPod = stringAt(kind, 'kind') === 'Pod' && stringAt(kind, 'group') === '' && isObject(object);
  const operation = stringAt(request, 'operation');
  // A running pod accepts no new container, and a subresource is no pod.
  if (!isPod || operation !== 'CREATE' || (stringAt(request, 'subResource') ?? '') !== '')
    return { outcome: 'untouched', because: 'the request does not create a pod' };
  return injectPod(object, context);
}

function changes(object: Json, injection: Injection): JsonObject {
  if (injection.outcome === 'injected') {
    const patch = JSON.stringify(jsonPatch(object, injection.pod));
    const texts = [...told(injection, 'doubt'), ...told(injection, 'left')];
    const warnings = warningsOf(texts.map((text) => `Outrigger: ${text}`));
    return { patchType: 'JSONPatch', patch: Buffer.from(patch).toString('base64'), ...warnings };
  }
  if (injection.outcome === 'untouched') return {};
  return warningsOf(injection.problems.map((problem) => `no Outrigger sidecar: ${problem}`));
}

function warningsOf(texts: readonly string[]): JsonObject {
  if (texts.length === 0) return {};
  const short = (text: string): string =>
    text.length > MAX_WARNING_CHARS ? `${text.slice(0, MAX_WARNING_CHARS - 1)}…` : text;
  return { warnings: texts.slice(0, MAX_WARNINGS).map(short) };
}

function told(injection: Injection, kind: NoteKind): readonly string[] {
  if (injection.outcome !== 'injected') return [];
  return [...new Set(injection.notes.filter((note) => note.kind === kind).map(({ text }) => text))];
}

function becauseOf(injection: Injection): readonly string[] {
  if (injection.outcome === 'injected') return [];
  return injection.outcome === 'untouched' ? [injection.because] : injection.problems;
}
