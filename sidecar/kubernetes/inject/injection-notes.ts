/** What the report tells of an injected pod, beyond what its ports and addresses told while they were read. */
import type { PodAnnotations } from './annotations.ts';
import { drainTimes } from './drain-times.ts';
import { at, type JsonObject, numberAt, objectAt, objectsAt, stringAt } from './json.ts';
import { did, doubt, type Note, shown } from './notes.ts';
import type { PodFacts } from './pod-facts.ts';
import { asksForName, inboundPortName, TARGET_ANNOTATION } from './service-retarget.ts';
import { servicesOf, serviceTargets } from './service-target.ts';
import { INJECT_LABEL } from './settings.ts';
import { inOneNamespace, namespaceOf, type Surroundings } from './surroundings.ts';

/** How callers reach the app now. */
export function servingNotes(facts: PodFacts): Note[] {
  const { appPort, appPortName, appPortEvidence, ports } = facts;
  if (appPort === undefined) return [];
  const name = appPortName === undefined ? '' : ` (${shown(appPortName)})`;
  const moved =
    appPortName === undefined ? '' : `; port ${ports.inbound} has the name ${shown(appPortName)} now`;
  return [
    did(`the sidecar serves port ${appPort}${name} at ${ports.inbound}: gRPC, by ${appPortEvidence}${moved}`),
  ];
}

/** Less leaves the calls in flight too little time to end. */
const SHORT_GRACE_SECONDS = 15;

export function graceNotes({ appPort, graceSeconds }: PodFacts): Note[] {
  if (appPort === undefined || graceSeconds >= SHORT_GRACE_SECONDS) return [];
  const { delay, timeout } = drainTimes(graceSeconds);
  return [
    doubt(
      `terminationGracePeriodSeconds is ${graceSeconds}: when the pod ends, callers have ${delay} s to go elsewhere and calls ${timeout} s to finish; calls of models take longer, so give it 30 or more`,
    ),
  ];
}

/** Settings in a place where they have no effect. */
export function misplacedNotes(metadata: JsonObject, workloadAnnotations: JsonObject): Note[] {
  const notes: Note[] = [];
  const own = objectAt(metadata, 'annotations');
  if (Object.hasOwn(own, INJECT_LABEL))
    notes.push(
      doubt(
        `${INJECT_LABEL} is an annotation here, but the webhook reads the label of that name; move it to labels`,
      ),
    );
  for (const key of Object.keys(workloadAnnotations))
    if (key.startsWith('outrigger.dev/') && !Object.hasOwn(own, key))
      notes.push(
        doubt(
          `the annotation ${shown(key)} of the workload has no effect; write it in the template's metadata (spec.template.metadata.annotations)`,
        ),
      );
  return notes;
}

/** The ways past the sidecar that the manifests show. */
export function bypassNotes(
  pod: { readonly metadata: JsonObject; readonly spec: JsonObject; readonly namespace: string | undefined },
  facts: PodFacts,
  annotations: PodAnnotations,
  { services, networkPolicies }: Surroundings,
): Note[] {
  const { appPort, ports } = facts;
  if (appPort === undefined) return [];
  const notes: Note[] = [];
  const labels = objectAt(pod.metadata, 'labels');
  for (const service of servicesOf(services, labels, pod.namespace)) {
    const name = shown(stringAt(objectAt(service, 'metadata'), 'name') ?? '');
    const asked = at(objectAt(objectAt(service, 'metadata'), 'annotations'), TARGET_ANNOTATION);
    if (asked !== undefined && asked !== 'name')
      notes.push(
        doubt(`the Service ${name}: the annotation ${TARGET_ANNOTATION} takes name, and has no effect`),
      );
    for (const { port, leads, isHeadless } of serviceTargets(service, pod.spec)) {
      if (leads !== 'bypass' || annotations.intercept) continue;
      if (isHeadless) {
        notes.push(
          doubt(
            `the headless Service ${name} has the app's port ${appPort}: callers that find the pods by DNS dial it, past the sidecar; give them the port ${ports.inbound}, or annotate the pod with outrigger.dev/intercept: "true"`,
          ),
        );
        continue;
      }
      const inbound = inboundPortName(pod.spec);
      if (asksForName(service) && inbound !== undefined) {
        notes.push(
          did(
            `the Service ${name} sends its port ${shown(port)} to the name ${shown(inbound)} now, the sidecar's port`,
          ),
        );
        continue;
      }
      notes.push(
        doubt(
          `the Service ${name} sends its port ${shown(port)} to the number ${appPort}, past the sidecar; annotate the Service with ${TARGET_ANNOTATION}: name and inject it together with the pod, write the port's name as its targetPort, or annotate the pod with outrigger.dev/intercept: "true"`,
        ),
      );
    }
  }
  for (const container of objectsAt(pod.spec, 'containers'))
    for (const port of objectsAt(container, 'ports')) {
      const host = numberAt(port, 'hostPort');
      if (host !== undefined && host !== 0 && numberAt(port, 'containerPort') === appPort)
        notes.push(
          doubt(
            `hostPort ${host} leads to the app past the sidecar; callers that should pass the sidecar use a Service`,
          ),
        );
    }
  if (!annotations.intercept)
    for (const policy of networkPolicies)
      if (admitsOnly(policy, labels, pod.namespace, appPort, ports.inbound))
        notes.push(
          doubt(
            `the NetworkPolicy ${shown(stringAt(objectAt(policy, 'metadata'), 'name') ?? '')} admits port ${appPort} and not ${ports.inbound}, where callers arrive now; add ${ports.inbound}, or write the port's name`,
          ),
        );
  return notes;
}

/** Whether a policy of the pod admits connections to the app's port, by its number, and not to the sidecar's. */
function admitsOnly(
  policy: JsonObject,
  labels: JsonObject,
  namespace: string | undefined,
  app: number,
  inbound: number,
): boolean {
  const spec = objectAt(policy, 'spec');
  const selector = objectAt(spec, 'podSelector');
  const wanted = Object.entries(objectAt(selector, 'matchLabels'));
  if (objectsAt(selector, 'matchExpressions').length > 0) return false;
  if (!inOneNamespace(namespaceOf(policy), namespace)) return false;
  if (!wanted.every(([key, value]) => labels[key] === value)) return false;
  const covers = (number: number) => (port: JsonObject) => {
    const from = numberAt(port, 'port');
    if (at(port, 'port') === undefined) return true;
    return from !== undefined && number >= from && number <= (numberAt(port, 'endPort') ?? from);
  };
  const rules = objectsAt(spec, 'ingress').map((rule) => objectsAt(rule, 'ports'));
  return (
    rules.some((ports) => ports.some(covers(app))) &&
    !rules.some((ports) => ports.length === 0 || ports.some(covers(inbound)))
  );
}
