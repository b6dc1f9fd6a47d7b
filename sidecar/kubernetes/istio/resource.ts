/** The data model of this folder: Kubernetes objects, and the notes beside their fields. */

type Value = string | number | boolean | readonly Value[] | Fields;
/** A field that is `undefined` is omitted. */
export interface Fields {
  readonly [name: string]: Value | undefined;
}

export type Kind =
  | 'DestinationRule'
  | 'VirtualService'
  | 'ServiceEntry'
  | 'Sidecar'
  | 'PeerAuthentication'
  | 'AuthorizationPolicy'
  | 'Telemetry';

const GROUPS: Readonly<Record<Kind, string>> = {
  DestinationRule: 'networking.istio.io/v1',
  VirtualService: 'networking.istio.io/v1',
  ServiceEntry: 'networking.istio.io/v1',
  Sidecar: 'networking.istio.io/v1',
  PeerAuthentication: 'security.istio.io/v1',
  AuthorizationPolicy: 'security.istio.io/v1',
  Telemetry: 'telemetry.istio.io/v1',
};

/** A comment above the field at `at`, or above the nearest enclosing field that is written. */
export interface Note {
  readonly at: readonly (string | number)[];
  readonly text: string;
}

export interface Resource {
  readonly object: Fields;
  readonly notes: readonly Note[];
}

/** All resources and notes of one agent: one file. */
export interface ResourceSet {
  /** The file's name without its extension; a DNS label. */
  readonly name: string;
  /** Paragraphs at the top of the file. */
  readonly head: readonly string[];
  readonly resources: readonly Resource[];
}

export interface Named {
  readonly name: string;
  readonly namespace: string;
}

export function resource(
  kind: Kind,
  { name, namespace }: Named,
  spec: Fields,
  notes: readonly Note[],
): Resource {
  const metadata = { name, namespace, labels: { 'app.kubernetes.io/part-of': 'agents' } };
  return { object: { apiVersion: GROUPS[kind], kind, metadata, spec }, notes };
}

/** A note on a field of `spec`; `path` has dots. */
export function note(path: string, text: string): Note {
  const steps = path.split('.').map((step) => (/^\d+$/.test(step) ? Number(step) : step));
  return { at: path === '' ? ['spec'] : ['spec', ...steps], text };
}

/** The notes whose condition is true. */
export function notesOf(...notes: readonly (Note | false | undefined)[]): Note[] {
  return notes.filter((each) => each !== undefined && each !== false);
}

/** A duration in protobuf's JSON form, which Istio reads; `undefined` for 0, which means off in the sidecar. */
export function durationOf(ms: number): string | undefined {
  return ms === 0 ? undefined : ms % 1000 === 0 ? `${ms / 1000}s` : `${ms}ms`;
}

/** A duration for a comment. */
export function spoken(ms: number): string {
  if (ms > 0 && ms % 60_000 === 0) return `${ms / 60_000}m`;
  return durationOf(ms) ?? '0s';
}

/** A valid Kubernetes object name, as similar to `text` as possible. */
export function objectName(text: string): string {
  const name = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^-+|-+$/g, '');
  return name.slice(0, 63).replace(/-+$/, '') || 'cluster';
}

/** A field of a `spec`, built in another file. */
export interface Part {
  readonly fields: Fields | undefined;
  /** Their paths begin at the part. */
  readonly notes: readonly Note[];
}
