/** What `envFrom` brings into a container: known where the input has the config map or the Secret, and only by its keys. */
import { at, type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';
import { inOneNamespace, namespaceOf } from './surroundings.ts';

/** One entry of `envFrom`. */
export interface EnvSource {
  readonly kind: 'ConfigMap' | 'Secret';
  readonly name: string;
  readonly prefix: string;
  /** The keys; undefined where the input does not have the object. */
  readonly keys: ReadonlySet<string> | undefined;
}

const KINDS = [
  { field: 'configMapRef', kind: 'ConfigMap', keyRef: 'configMapKeyRef', data: ['data'] },
  { field: 'secretRef', kind: 'Secret', keyRef: 'secretKeyRef', data: ['data', 'stringData'] },
] as const;

export function envSources(
  container: JsonObject,
  variables: readonly JsonObject[],
  namespace: string | undefined,
): readonly EnvSource[] {
  return objectsAt(container, 'envFrom').flatMap((entry) =>
    KINDS.flatMap(({ field, kind, data }) => {
      const name = stringAt(objectAt(entry, field), 'name');
      if (name === undefined) return [];
      const found = variables.find(
        (object) =>
          stringAt(object, 'kind') === kind &&
          stringAt(objectAt(object, 'metadata'), 'name') === name &&
          inOneNamespace(namespaceOf(object), namespace),
      );
      const keys = found && new Set(data.flatMap((part) => Object.keys(objectAt(found, part))));
      return [{ kind, name, prefix: stringAt(entry, 'prefix') ?? '', keys }];
    }),
  );
}

/** The variable of a source as an entry of `env`; undefined where the source can't have it. */
export function variableFrom(source: EnvSource, variable: string): JsonObject | undefined {
  const { kind, name, prefix, keys } = source;
  if (!variable.startsWith(prefix)) return undefined;
  const key = variable.slice(prefix.length);
  if (keys !== undefined && !keys.has(key)) return undefined;
  const { keyRef } = KINDS.find((each) => each.kind === kind)!;
  const optional = keys === undefined ? { optional: true } : {};
  return { name: variable, valueFrom: { [keyRef]: { name, key, ...optional } } };
}

/** Whether the container has a variable, by itself or from a source that is known to have it. */
export function hasVariable(container: JsonObject, sources: readonly EnvSource[], pattern: RegExp): boolean {
  return (
    objectsAt(container, 'env').some((entry) => pattern.test(stringAt(entry, 'name') ?? '')) ||
    sources.some(({ keys, prefix }) => [...(keys ?? [])].some((key) => pattern.test(prefix + key)))
  );
}

/** The sources whose keys nobody here knows. */
export function unseen(sources: readonly EnvSource[]): readonly EnvSource[] {
  return sources.filter(({ keys }) => keys === undefined);
}

export function describeSource({ kind, name }: EnvSource): string {
  return `the ${kind} ${name}`;
}

/** The value of a variable in `env` that counts, as in Kubernetes: the last one of its name. */
export function ownVariable(container: JsonObject, name: string): JsonObject | undefined {
  return objectsAt(container, 'env').findLast((entry) => at(entry, 'name') === name);
}
