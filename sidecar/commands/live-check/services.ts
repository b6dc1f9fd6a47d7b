/**
 * Looks for Services of a cluster that lead callers past the sidecars: to the app's own port, where no policy, limit or certificate
 * applies.
 */
import { type Json, type JsonObject, objectAt, objectsAt, stringAt } from '../../kubernetes/inject/json.ts';
import { servicesOf, serviceTargets, sidecarOf } from '../../kubernetes/inject/service-target.ts';
import { ApiServerError, apiServer } from '../api-server.ts';
import { AskError, askJson } from '../ask.ts';
import { type LiveResult, LOOK_MS, ok, problem, warning } from './finding.ts';

/** A namespace with more is looked at in part. */
const MAX_OBJECTS = 500;
const INTERCEPT = 'outrigger.dev/intercept';

/** @param namespace the one of the kubeconfig or of the pod where it is empty */
export async function lookAtServices(namespace: string): Promise<LiveResult[]> {
  try {
    const api = await apiServer();
    const where = namespace || api.namespace;
    const list = async (kind: string): Promise<readonly JsonObject[]> => {
      const path = `${api.path}/api/v1/namespaces/${encodeURIComponent(where)}/${kind}?limit=${MAX_OBJECTS}`;
      return objectsAt((await askJson(api.target, path, LOOK_MS)) as Json, 'items');
    };
    const [services, pods] = await Promise.all([list('services'), list('pods')]);
    return judge(where, services, pods);
  } catch (error) {
    if (!(error instanceof AskError || error instanceof ApiServerError)) throw error;
    const remedy =
      'you need list on services and pods there, by KUBECONFIG or by the service account of the pod';
    return [
      problem([], `namespace ${namespace}`, `its Services can not be listed: ${error.message}`, remedy),
    ];
  }
}

function judge(
  namespace: string,
  services: readonly JsonObject[],
  pods: readonly JsonObject[],
): LiveResult[] {
  const found = new Map<string, LiveResult>();
  for (const pod of pods) {
    const spec = objectAt(pod, 'spec');
    const metadata = objectAt(pod, 'metadata');
    if (sidecarOf(spec) === undefined || stringAt(objectAt(metadata, 'annotations'), INTERCEPT) === 'true')
      continue;
    for (const service of servicesOf(services, objectAt(metadata, 'labels'), namespace))
      for (const { port, target, leads, isHeadless } of serviceTargets(service, spec)) {
        const name = `Service ${namespace}/${stringAt(objectAt(service, 'metadata'), 'name') ?? ''}`;
        if (leads === 'bypass')
          found.set(`${name} ${port}`, bypassed(`${name} port ${port}`, target, isHeadless));
      }
  }
  if (found.size > 0) return [...found.values()];
  const injected = pods.filter((pod) => sidecarOf(objectAt(pod, 'spec')) !== undefined).length;
  return [
    ok([], `namespace ${namespace}`, `no Service leads past the sidecars of its ${injected} injected pods`),
  ];
}

function bypassed(target: string, port: string | number, isHeadless: boolean): LiveResult {
  const message = isHeadless
    ? "callers that find its pods by DNS dial the app's own port, past the sidecar"
    : `its targetPort ${port} is the app's own port: calls go past the sidecar`;
  const remedy = isHeadless
    ? `give callers the sidecar's port, or annotate the pods with ${INTERCEPT}: "true"`
    : `write the name of the port as its targetPort, or annotate the pods with ${INTERCEPT}: "true"`;
  return warning([], target, message, remedy);
}
