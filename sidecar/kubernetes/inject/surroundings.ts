/** The objects beside a workload that injection may read: `outrigger inject` sees them, the webhook does not. */
import { at, isObject, type Json, type JsonObject, objectAt, stringAt } from './json.ts';

export interface Surroundings {
  readonly services: readonly JsonObject[];
  readonly networkPolicies: readonly JsonObject[];
  /** ConfigMaps and Secrets. Only their keys are read. */
  readonly variables: readonly JsonObject[];
}

/** A pod alone, as the webhook sees it. */
export const NOTHING_AROUND: Surroundings = { services: [], networkPolicies: [], variables: [] };

/** Collects them from all documents of an input, also from Lists. */
export function surroundingsIn(objects: readonly Json[]): Surroundings {
  const services: JsonObject[] = [];
  const networkPolicies: JsonObject[] = [];
  const variables: JsonObject[] = [];
  const visit = (object: Json): void => {
    if (!isObject(object)) return;
    const kind = stringAt(object, 'kind') ?? '';
    const version = stringAt(object, 'apiVersion') ?? '';
    const items = at(object, 'items');
    if (kind.endsWith('List') && Array.isArray(items)) {
      const implied = kind.slice(0, -'List'.length);
      for (const item of items as readonly Json[])
        visit(isObject(item) && implied !== '' ? { apiVersion: version, kind: implied, ...item } : item);
    } else if (version === 'v1' && kind === 'Service') services.push(object);
    else if (version === 'v1' && (kind === 'ConfigMap' || kind === 'Secret')) variables.push(object);
    else if (version.startsWith('networking.k8s.io/') && kind === 'NetworkPolicy')
      networkPolicies.push(object);
  };
  for (const object of objects) visit(object);
  return { services, networkPolicies, variables };
}

/** Whether two objects share a namespace; an object without one may go to any. */
export function inOneNamespace(one: string | undefined, other: string | undefined): boolean {
  return one === undefined || other === undefined || one === other;
}

export function namespaceOf(object: JsonObject): string | undefined {
  return stringAt(objectAt(object, 'metadata'), 'namespace');
}

/** Whether a selector of equal labels selects these; an empty one selects nothing. */
export function selects(selector: JsonObject, labels: JsonObject): boolean {
  const wanted = Object.entries(selector);
  return wanted.length > 0 && wanted.every(([key, value]) => labels[key] === value);
}
