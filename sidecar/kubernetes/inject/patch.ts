/** The injection of a sidecar, from the facts about a pod to its changed spec. */
import { readAnnotations } from './annotations.ts';
import { type AddressPlan, planAddresses } from './app-addresses.ts';
import { holdSigterm, moveProbes, releasePortName } from './app-container.ts';
import { appEnvironment, otelOf } from './app-environment.ts';
import { drainTimes } from './drain-times.ts';
import { bypassNotes, graceNotes, misplacedNotes, servingNotes } from './injection-notes.ts';
import { interceptContainer, interception, interceptRules } from './intercept.ts';
import { istioClash, withoutIstio } from './istio-proxy.ts';
import { at, isObject, type Json, type JsonObject, objectAt, objectsAt, stringAt } from './json.ts';
import { type ModelPlan, planModels } from './model-plan.ts';
import { harmless, type Note } from './notes.ts';
import { cannotHaveSidecar, clashes, hasSidecar, type PodFacts, readFacts } from './pod-facts.ts';
import { servicesOf } from './service-target.ts';
import { INJECT_LABEL, type InjectSettings, STATUS_ANNOTATION } from './settings.ts';
import { sidecarContainer } from './sidecar-container.ts';
import { placeOfSidecar, sidecarVolumes } from './sidecar-volumes.ts';
import { NOTHING_AROUND, type Surroundings } from './surroundings.ts';
import { targetNotes } from './target-services.ts';

/** The result for a pod or a pod template: an object with `metadata` and `spec`. */
export type Injection =
  | { readonly outcome: 'injected'; readonly pod: JsonObject; readonly notes: readonly Note[] }
  /** Unchanged, on purpose. */
  | { readonly outcome: 'untouched'; readonly because: string }
  /** Unchanged, though the pod requested a sidecar; each problem says what to do. */
  | { readonly outcome: 'refused'; readonly problems: readonly string[] };

/** Other sources of the sidecar's name: the workload around the template. */
export interface InjectContext {
  readonly settings: InjectSettings;
  /** The version, which goes into the annotation. */
  readonly version: string;
  readonly workloadName?: string | undefined;
  /** The namespace of the workload, where the template has none. */
  readonly namespace?: string | undefined;
  /** The labels and annotations of the workload around the template. */
  readonly workloadLabels?: JsonObject | undefined;
  readonly workloadAnnotations?: JsonObject | undefined;
  /** The objects beside the workload; none for a pod alone. */
  readonly around?: Surroundings | undefined;
}

/**
 * Injects the sidecar into a pod. Pure: it does not change the given pod. It never throws, and leaves unchanged what it
 * does not understand. A second injection changes nothing.
 */
export function injectPod(pod: unknown, context: InjectContext): Injection {
  if (!isObject(pod) || !isObject(at(pod, 'spec'))) return untouched('it is not a pod');
  const metadata = objectAt(pod, 'metadata');
  const spec = objectAt(pod, 'spec');
  if (String(at(objectAt(metadata, 'labels'), INJECT_LABEL)) === 'false')
    return untouched(`its label ${INJECT_LABEL} says "false"`);
  const asAnnotation = at(objectAt(metadata, 'annotations'), INJECT_LABEL);
  if (String(asAnnotation) === 'false') return untouched(`its annotation ${INJECT_LABEL} says "false"`);
  if (String(at(context.workloadLabels ?? {}, INJECT_LABEL)) === 'false')
    return untouched(`the label ${INJECT_LABEL} of its workload says "false"`);
  if (hasSidecar(spec)) return untouched('it has the sidecar already');
  const impossible = cannotHaveSidecar(spec, metadata);
  if (impossible !== undefined) return untouched(impossible);
  const read = readAnnotations(metadata);
  if ('problems' in read) return refused(read.problems);
  const around = context.around ?? NOTHING_AROUND;
  const namespace = stringAt(metadata, 'namespace') ?? context.namespace;
  const services = servicesOf(around.services, objectAt(metadata, 'labels'), namespace);
  const { facts, notes: portNotes } = readFacts(spec, read.annotations, services);
  const problems = clashes(spec, read.annotations, facts);
  const istio = read.annotations.portOffset === 0 ? istioClash(spec, metadata) : undefined;
  if (istio !== undefined) problems.push(istio);
  if (problems.length > 0) return refused(problems);
  const addresses = planAddresses(spec, read.annotations, facts.ports);
  const app = objectsAt(spec, 'containers').find(({ name }) => name === facts.appContainer);
  const models = planModels(spec, app, around.variables, namespace, read.annotations.config !== undefined);
  const result = injected({ pod, metadata, spec, ...read, facts, context, addresses, app, models });
  const after = { metadata, spec: objectAt(result, 'spec'), namespace };
  const notes = [
    ...servingNotes(facts),
    ...portNotes,
    ...addresses.notes,
    ...targetNotes(addresses.targets, around.services, namespace, read.annotations),
    ...models.notes,
    ...misplacedNotes(metadata, context.workloadAnnotations ?? {}),
    ...graceNotes(facts),
    ...bypassNotes(after, facts, read.annotations, around),
  ];
  return { outcome: 'injected', pod: result, notes };
}

interface Injectable {
  readonly pod: JsonObject;
  readonly metadata: JsonObject;
  readonly spec: JsonObject;
  readonly annotations: Extract<ReturnType<typeof readAnnotations>, { annotations: unknown }>['annotations'];
  readonly facts: PodFacts;
  readonly context: InjectContext;
  readonly addresses: AddressPlan;
  readonly app: JsonObject | undefined;
  readonly models: ModelPlan;
}

function injected(source: Injectable): JsonObject {
  const { pod, metadata, spec, annotations, facts, context, addresses, app, models } = source;
  const { settings, version } = context;
  const containers = at(spec, 'containers') as readonly Json[];
  // Many workloads share one config map, so the pod's own name overrides the name in there.
  const name =
    givenName(metadata) ??
    (annotations.config === undefined ? nameOf(metadata, context.workloadName) : undefined);
  const sidecar = sidecarContainer({
    settings,
    annotations,
    facts,
    name,
    llm: models.forSidecar,
    otel: app === undefined ? [] : otelOf(app),
    targets: addresses.targets,
  });
  const redirect = annotations.intercept
    ? [interceptContainer(settings, interceptRules(interception(annotations, facts)))]
    : [];
  const target = {
    ports: facts.ports,
    name,
    mayHaveTls: annotations.tlsSecret !== undefined || annotations.tlsVolume !== undefined,
  };
  // Containers of a pod share its network, so each may be probed on the app's port.
  const probed = (container: JsonObject): JsonObject =>
    facts.appPort === undefined ? container : moveProbes(container, facts.appPort, target);
  const inits = listAt(spec, 'initContainers').map((init) => (isObject(init) ? probed(init) : init));
  const newSpec: Record<string, Json> = {
    ...spec,
    initContainers: inits.toSpliced(placeOfSidecar(inits, annotations), 0, sidecar, ...redirect),
    containers: containers.map((container) =>
      isObject(container) ? appContainer(probed(container), container, source) : container,
    ),
  };
  // A token belongs to a service account; a pod without an explicit one uses this.
  if (
    annotations.endpointSlices &&
    (at(spec, 'serviceAccountName') ?? at(spec, 'serviceAccount') ?? '') === ''
  )
    newSpec['serviceAccountName'] = 'default';
  const volumes = sidecarVolumes(annotations).map(({ name, source }) => ({ name, ...source }));
  if (volumes.length > 0) newSpec['volumes'] = [...listAt(spec, 'volumes'), ...volumes];
  const labels = annotations.portOffset === 0 ? { labels: withoutIstio(objectAt(metadata, 'labels')) } : {};
  const marked = { annotations: { ...objectAt(metadata, 'annotations'), [STATUS_ANNOTATION]: version } };
  return { ...pod, metadata: { ...metadata, ...labels, ...marked }, spec: newSpec };
}

/** @param original the container as it was given */
function appContainer(
  container: JsonObject,
  original: JsonObject,
  { facts, addresses, annotations, app, models }: Injectable,
): JsonObject {
  const { appPort, appPortName, graceSeconds, ports } = facts;
  const isApp = original === app;
  const model = models.accessOf(original);
  const changed = appEnvironment(container, {
    isAgent: isApp,
    model,
    moved: models.moved,
    ports,
    hasConfig: annotations.config !== undefined,
    addresses,
  });
  if (!isApp || appPort === undefined) return changed;
  const released = appPortName === undefined ? changed : releasePortName(changed, appPort, appPortName);
  return holdSigterm(released, drainTimes(graceSeconds).appSleep);
}

function listAt(value: JsonObject, key: string): readonly Json[] {
  const list = at(value, key);
  return Array.isArray(list) ? list : [];
}

function givenName(metadata: JsonObject): string | undefined {
  return stringAt(objectAt(metadata, 'labels'), 'app.kubernetes.io/name');
}

function nameOf(metadata: JsonObject, workloadName: string | undefined): string | undefined {
  const found =
    stringAt(objectAt(metadata, 'labels'), 'app') ??
    workloadName ??
    // The name of a Deployment's pod consists of the Deployment's name, the template's hash and a suffix of its own.
    stringAt(metadata, 'generateName')?.replace(/(-[a-z0-9]{6,10})?-$/, '') ??
    stringAt(metadata, 'name');
  return found === '' ? undefined : found;
}

function untouched(because: string): Injection {
  return { outcome: 'untouched', because: harmless(because) };
}

function refused(problems: readonly string[]): Injection {
  return { outcome: 'refused', problems: problems.map(harmless) };
}
