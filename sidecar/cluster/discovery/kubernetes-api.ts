/**
 * Reads EndpointSlices from the Kubernetes API, with the pod's service account or with KUBECONFIG. It loads the API's
 * client at the first use.
 */
import type { KubeConfig } from '@kubernetes/client-node';
import type { EndpointSlice } from './endpoint-slices.ts';
import type { SliceEvent, SliceSource } from './kubernetes.ts';
import type { KubernetesSettings } from './kubernetes-settings.ts';

const ZONE_LABEL = 'topology.kubernetes.io/zone';
const SERVICE_LABEL = 'kubernetes.io/service-name';

/** EndpointSlices from the API server. */
export class KubernetesApi implements SliceSource {
  private readonly settings: KubernetesSettings;
  private loaded:
    | Promise<{ client: typeof import('@kubernetes/client-node'); config: KubeConfig }>
    | undefined;
  service: string;

  constructor(settings: KubernetesSettings) {
    this.settings = settings;
    this.service = `${settings.namespace || '(own namespace)'}/${settings.service}`;
  }

  private async load() {
    // Load again after a failure: the token may have been mounted since.
    this.loaded ??= import('@kubernetes/client-node').then((client) => {
      const config = new client.KubeConfig();
      config.loadFromDefault();
      return { client, config };
    });
    try {
      return await this.loaded;
    } catch (error) {
      this.loaded = undefined;
      throw error;
    }
  }

  private async namespace(): Promise<string> {
    const { config } = await this.load();
    const own = config.getContextObject(config.getCurrentContext())?.namespace;
    const namespace = this.settings.namespace || own || 'default';
    this.service = `${namespace}/${this.settings.service}`;
    return namespace;
  }

  async list(): Promise<{ slices: readonly EndpointSlice[]; resourceVersion: string }> {
    const { client, config } = await this.load();
    const namespace = await this.namespace();
    const api = config.makeApiClient(client.DiscoveryV1Api);
    const labelSelector = `${SERVICE_LABEL}=${this.settings.service}`;
    try {
      const { items, metadata } = await api.listNamespacedEndpointSlice({ namespace, labelSelector });
      return { slices: items, resourceVersion: metadata?.resourceVersion ?? '' };
    } catch (error) {
      throw explained(error, 'list');
    }
  }

  watch(
    resourceVersion: string,
    onEvent: (event: SliceEvent) => void,
    onEnd: (error: Error | undefined) => void,
  ): () => void {
    let controller: AbortController | undefined;
    let ended = false;
    const end = (error: unknown): void => {
      if (ended) return;
      ended = true;
      // The client ends a watch that received nothing for a while; that is no failure.
      const quiet = error === null || error === undefined || (error as Error).name === 'TimeoutError';
      onEnd(quiet ? undefined : explained(error, 'watch'));
    };
    const begin = async (): Promise<void> => {
      const { client, config } = await this.load();
      const path = `/apis/discovery.k8s.io/v1/namespaces/${await this.namespace()}/endpointslices`;
      const labelSelector = `${SERVICE_LABEL}=${this.settings.service}`;
      const query = { labelSelector, resourceVersion, allowWatchBookmarks: true };
      if (ended) return;
      const watch = new client.Watch(config);
      controller = await watch.watch(path, query, (type, object) => ended || onEvent({ type, object }), end);
      if (ended) controller.abort();
    };
    begin().catch(end);
    return () => {
      ended = true;
      controller?.abort();
    };
  }

  async zone(): Promise<string | undefined> {
    const { zonePreference, zone } = this.settings;
    if (!zonePreference) return undefined;
    if (zone !== '') return zone;
    const name = process.env['NODE_NAME'];
    if (name === undefined || name === '') return undefined;
    try {
      const { client, config } = await this.load();
      const node = await config.makeApiClient(client.CoreV1Api).readNode({ name });
      return node.metadata?.labels?.[ZONE_LABEL];
    } catch (error) {
      const reason = explained(error, 'get').message;
      throw new Error(`the zone of node ${name} is unknown, so the sidecar prefers no zone: ${reason}`);
    }
  }
}

const REMEDIES: Readonly<Record<number, string>> = {
  401: 'the API server does not know this service account (401); check that its token is mounted',
  403: 'this service account lacks the permission (403); give it the Role of docs/tls.md',
};

/** Makes an error with the HTTP status as `statusCode`. It leaves out the response body, which the server controls. */
function explained(error: unknown, verb: string): Error {
  const { code, statusCode, message, cause } = error as {
    code?: unknown;
    statusCode?: number;
    message?: string;
    cause?: { message?: string };
  };
  const status = statusCode ?? (typeof code === 'number' ? code : undefined);
  const reason =
    status === undefined
      ? `${cause?.message ?? message}; check that the API server can be reached`
      : (REMEDIES[status] ?? `the API server answered ${status}`);
  return Object.assign(new Error(`can't ${verb}: ${reason}`, { cause: error }), { statusCode: status });
}
