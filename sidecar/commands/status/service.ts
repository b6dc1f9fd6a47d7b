/**
 * Finds the sidecars behind a Kubernetes Service by its EndpointSlices. Inside the cluster they are asked directly; outside,
 * where no pod's address is reachable, through the API server, with the permissions of the kubeconfig (`pods/proxy`).
 */
import type { RequestOptions } from 'node:https';
import { formatHostPort } from '../../net/address.ts';
import { AskError, askJson, type Target } from '../ask.ts';
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
  const api = await apiServer();
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

interface ApiServer {
  readonly target: Target;
  /** The path of the server's URL, before that of the API. */
  readonly path: string;
  /** The own namespace. */
  readonly namespace: string;
  readonly inCluster: boolean;
}

/** The API server of the kubeconfig (KUBECONFIG, ~/.kube/config), or of the cluster that this process runs in. */
async function apiServer(): Promise<ApiServer> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
    const server = config.getCurrentCluster()?.server;
    if (server === undefined) throw new Error('it names no cluster');
    const { protocol, hostname, port, pathname } = new URL(server);
    const options: RequestOptions = {};
    await config.applyToHTTPSOptions(options);
    const { agent: _, ...credentials } = options;
    const secure = protocol === 'https:';
    return {
      target: {
        ...credentials,
        host: hostname.replace(/^\[|\]$/g, ''),
        port: port === '' ? (secure ? 443 : 80) : Number(port),
        secure,
      },
      path: pathname.replace(/\/$/, ''),
      namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
      inCluster: config.getCurrentContext() === 'inClusterContext',
    };
  } catch (error) {
    throw new FleetError(
      `no Kubernetes cluster can be asked (${(error as Error).message}); set KUBECONFIG, or use --dns or --at`,
      error,
    );
  }
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
