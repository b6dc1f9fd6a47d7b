/** Finds the pod templates in Kubernetes objects. */
import { at, isObject, type Json, type JsonObject, objectAt, stringAt } from './json.ts';
import { doubt, shown } from './notes.ts';
import { type InjectContext, type Injection, injectPod } from './patch.ts';
import { INJECT_LABEL, SIDECAR_USER } from './settings.ts';
import { namespaceOf } from './surroundings.ts';

/** The place of the pod template in each kind; a Pod is its own template. */
const TEMPLATES: Readonly<Record<string, readonly string[]>> = {
  'v1/Pod': [],
  'v1/ReplicationController': ['spec', 'template'],
  'v1/PodTemplate': ['template'],
  'apps/Deployment': ['spec', 'template'],
  'apps/StatefulSet': ['spec', 'template'],
  'apps/DaemonSet': ['spec', 'template'],
  'apps/ReplicaSet': ['spec', 'template'],
  'argoproj.io/Rollout': ['spec', 'template'],
  'apps.openshift.io/DeploymentConfig': ['spec', 'template'],
  'batch/Job': ['spec', 'template'],
  'batch/CronJob': ['spec', 'jobTemplate', 'spec', 'template'],
};

/** The part of the context that is the same for all workloads. */
export type WorkloadContext = Omit<
  InjectContext,
  'workloadName' | 'namespace' | 'workloadLabels' | 'workloadAnnotations'
>;

/** The result for one workload of a document. */
export interface WorkloadReport {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string | undefined;
  readonly injection: Injection;
}

/**
 * Injects the sidecar into every workload of one object: the workload itself, or a List of workloads. An object of
 * another kind stays unchanged; the report names it if it has pods.
 */
export function injectObject(
  object: Json,
  context: WorkloadContext,
): { object: Json; reports: WorkloadReport[] } {
  if (!isObject(object)) return { object, reports: [] };
  const items = at(object, 'items');
  if (stringAt(object, 'kind')?.endsWith('List') && Array.isArray(items))
    return injectList(object, items, context);
  const path = TEMPLATES[kindOf(object)];
  if (path === undefined) return { object, reports: foreign(object) };
  const workloadName = path.length === 0 ? undefined : stringAt(objectAt(object, 'metadata'), 'name');
  let template: Json | undefined = object;
  for (const key of path) template = at(template, key);
  const namespace = namespaceOf(object);
  const around = path.length === 0 ? {} : objectAt(object, 'metadata');
  const injection = injectionOf(object, template, {
    ...context,
    workloadName,
    namespace,
    workloadLabels: objectAt(around, 'labels'),
    workloadAnnotations: objectAt(around, 'annotations'),
  });
  const reports = [{ kind: stringAt(object, 'kind')!, name: nameOf(object), namespace, injection }];
  return {
    object: injection.outcome === 'injected' ? replaced(object, path, injection.pod) : object,
    reports,
  };
}

function injectionOf(object: JsonObject, template: Json | undefined, context: InjectContext): Injection {
  const reference = objectAt(objectAt(object, 'spec'), 'workloadRef');
  if (template === undefined && stringAt(reference, 'name') !== undefined) {
    const of = `${stringAt(reference, 'kind') ?? 'workload'} ${stringAt(reference, 'name')}`;
    return {
      outcome: 'untouched',
      because: `its pods come from the ${shown(of)} (workloadRef); inject that`,
    };
  }
  const injection = injectPod(template, context);
  if (injection.outcome !== 'injected' || !kindOf(object).startsWith('apps.openshift.io/')) return injection;
  const text = `OpenShift's restricted-v2 admits no user of a container's own choice, and the sidecar runs as ${SIDECAR_USER}; let the pod's service account use nonroot-v2`;
  return { ...injection, notes: [...injection.notes, doubt(text)] };
}

/** The report of an object of another kind that has pods, so that nobody believes it to be injected. */
function foreign(object: JsonObject): WorkloadReport[] {
  const group = (stringAt(object, 'apiVersion') ?? '').split('/')[0]!;
  const kind = stringAt(object, 'kind');
  if (kind === undefined || !hasPods(object, 0)) return [];
  const because =
    group === 'serving.knative.dev'
      ? "Knative accepts no native sidecar among a Service's init containers; run the app as a Deployment to protect it"
      : `inject does not know the kind ${shown(kind)} of ${shown(group)}; the webhook injects into its pods, if they or their namespace have the label ${INJECT_LABEL}: "true"`;
  return [
    {
      kind,
      name: nameOf(object),
      namespace: namespaceOf(object),
      injection: { outcome: 'untouched', because },
    },
  ];
}

/** How deep we look for the pods of an unknown kind. */
const MAX_DEPTH = 8;

function hasPods(value: Json, depth: number): boolean {
  if (depth > MAX_DEPTH) return false;
  if (Array.isArray(value)) return value.some((item: Json) => hasPods(item, depth + 1));
  if (!isObject(value)) return false;
  const containers = at(objectAt(value, 'spec'), 'containers');
  if (Array.isArray(containers) && containers.some((each: Json) => stringAt(each, 'image') !== undefined))
    return true;
  return Object.values(value).some((inner) => hasPods(inner, depth + 1));
}

function injectList(
  list: JsonObject,
  items: readonly Json[],
  context: WorkloadContext,
): ReturnType<typeof injectObject> {
  // A DeploymentList's items may omit their kind.
  const kind = stringAt(list, 'kind')!.slice(0, -'List'.length);
  const reports: WorkloadReport[] = [];
  const changed = items.map((item) => {
    const implied = kind !== '' && isObject(item) && item['kind'] === undefined;
    const typed = implied ? { apiVersion: list['apiVersion'] ?? 'v1', kind, ...item } : item;
    const result = injectObject(typed, context);
    reports.push(...result.reports);
    if (result.object === typed) return item;
    if (!implied) return result.object;
    const { apiVersion: _, kind: __, ...rest } = result.object as JsonObject;
    return {
      ...(isObject(item) && 'apiVersion' in item ? { apiVersion: item['apiVersion']! } : {}),
      ...rest,
    };
  });
  const touched = changed.some((item, index) => item !== items[index]);
  return { object: touched ? { ...list, items: changed } : list, reports };
}

/** `apps/Deployment`, whatever the version of the group. */
function kindOf(object: JsonObject): string {
  const apiVersion = stringAt(object, 'apiVersion') ?? '';
  const group = apiVersion === 'v1' ? 'v1' : apiVersion.split('/')[0];
  const key = `${group}/${stringAt(object, 'kind') ?? ''}`;
  return Object.hasOwn(TEMPLATES, key) ? key : '';
}

/** Whether injection knows where the object has its pods, or an item of a List does. */
export function isWorkload(object: Json): boolean {
  if (!isObject(object)) return false;
  const items = at(object, 'items');
  return kindOf(object) !== '' || (Array.isArray(items) && items.some((item: Json) => isWorkload(item)));
}

function replaced(object: JsonObject, [key, ...rest]: readonly string[], value: JsonObject): JsonObject {
  if (key === undefined) return value;
  return { ...object, [key]: replaced(objectAt(object, key), rest, value) };
}

function nameOf(object: JsonObject): string {
  const metadata = objectAt(object, 'metadata');
  return stringAt(metadata, 'name') ?? stringAt(metadata, 'generateName') ?? '(no name)';
}
