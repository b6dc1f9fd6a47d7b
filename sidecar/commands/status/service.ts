/**
 * Finds the sidecars behind a Kubernetes Service by its EndpointSlices. Inside the cluster they are asked directly; outside,
 * where no pod's address is reachable, through the API server, with the permissions of the kubeconfig (`pods/proxy`).
 */
import { formatHostPort } from '../../net/address.ts';
import { ApiServerError, apiServer } from '../api-server.ts';
import { AskError, askJson } from '../ask.ts';
import { FleetError, type Found } from './fleet.ts';

const LIST_TIMEOUT_MS = 10_000;

interface SliceList {
  readonly items?: readonly {
    readonly endpoints?: readonly {
      readonly addresses?: readonly string[];
      readonly targetRef?: { readonly kind?: string; readonly name?: string };
    }[];
  }[];
}

/** @param name `NAMESPACE/SERVICE`, or a Service of the own namespace; throws {@link FleetError} */
export async function byService(name: string, port: number): Promise<Found[]> {
  const api = await apiServer().catch((error: unknown) => {
    if (!(error instanceof ApiServerError)) throw error;
    throw new FleetError(`${error.message}, or use --dns or --at`, error);
  });
  const [namespace = '', service = ''] = name.includes('/') ? name.split('/') : [api.namespace, name];
  const where = `/api/v1/namespaces/${encodeURIComponent(namespace)}`;
  const selector = encodeURIComponent(`kubernetes.io/service-name=${service}`);
  const slices = `/apis/discovery.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/endpointslices?labelSelector=${selector}`;
  const list = (await askJson(api.target, `${api.path}${slices}`, LIST_TIMEOUT_MS).catch((error: unknown) => {
    throw new FleetError(`the Service ${namespace}/${service}: ${reasonOf(error)}`, error);
  })) as SliceList;
  const found = new Map<string, Found>();
  for (const { endpoints } of list.items ?? [])
    for (const { addresses, targetRef } of endpoints ?? []) {
      const [ip] = addresses ?? [];
      const pod = targetRef?.kind === 'Pod' ? (targetRef.name ?? '') : '';
      // A pod has an endpoint for each of its families; one line is enough.
      if (ip === undefined || found.has(pod || ip)) continue;
      const address = formatHostPort(ip, port);
      const direct = { address, pod, target: { host: ip, port }, path: '/status' };
      const proxied = `${api.path}${where}/pods/${encodeURIComponent(`${pod}:${port}`)}/proxy/status`;
      const isDirect = api.inCluster || pod === '';
      found.set(pod || ip, isDirect ? direct : { ...direct, target: api.target, path: proxied });
    }
  return [...found.values()];
}

const REMEDIES: Readonly<Record<number, string>> = {
  401: 'the API server does not know you (401); log in again',
  403: 'the permission to list endpointslices is missing (403); docs/observability.md has the Role',
  404: 'the API server has no EndpointSlices (404); check the address in the kubeconfig',
};

function reasonOf(error: unknown): string {
  if (!(error instanceof AskError)) throw error;
  return REMEDIES[error.status] ?? `the API server can not be asked: ${error.message}`;
}
