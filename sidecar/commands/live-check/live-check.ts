/** `outrigger check --live`: what only the network can tell of a configuration. */
import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { serviceNameOf } from '../../cluster/cluster-set.ts';
import { TlsConnector } from '../../cluster/connection/tls-connector.ts';
import { readSlices } from '../../cluster/discovery/endpoint-slices.ts';
import { KubernetesApi } from '../../cluster/discovery/kubernetes-api.ts';
import type { ClusterConfig, Config } from '../../config/config.ts';
import type { Path } from '../../config/problems.ts';
import { providerKind } from '../../llm/kinds/kinds.ts';
import { formatHostPort, NO_APP, parseAddress } from '../../net/address.ts';
import { NOBODY } from '../../tls/credentials.ts';
import { lookAtBus } from './bus.ts';
import { type Connect, lookAtEndpoint, unresolved } from './endpoint.ts';
import { type LiveResult, LOOK_MS, problem, warning, within } from './finding.ts';
import { lookAtProvider } from './provider.ts';
import { modelsAt } from './provider-models.ts';
import { lookAtServices } from './services.ts';
import { lookAtToolServer } from './tool-server.ts';

const AT_A_TIME = 16;
/** Of a large Service, a part says enough. */
const MAX_ENDPOINTS = 20;

type Look = () => Promise<readonly LiveResult[]>;

/** Looks at everything that the configuration names, some at a time. */
export async function liveCheck(
  config: Config,
  env: NodeJS.ProcessEnv,
  namespaces: readonly string[] = [],
): Promise<LiveResult[]> {
  const { app } = config.inbound;
  const looks: Look[] = [];
  if (app !== NO_APP) looks.push(async () => [await lookAtEndpoint(['inbound', 'app'], app, 'the agent')]);
  for (const [name, cluster] of config.outbound.clusters)
    if (cluster.bus === undefined) looks.push(() => lookAtCluster(name, cluster));
  looks.push(() => lookAtBus(config.bus.url));
  for (const [index, upstream] of config.llm.upstreams.entries()) {
    const { url, kind, apiKeyEnv, apiKeyFile, apiVersion, headers, ca } = upstream;
    looks.push(() =>
      lookAtProvider({
        path: ['llm', 'upstreams', index],
        url,
        kind: providerKind(kind, new URL(url)),
        version: apiVersion ?? '',
        headers,
        keyName: apiKeyFile ?? apiKeyEnv,
        key: keyOf(apiKeyFile, apiKeyEnv === undefined ? undefined : env[apiKeyEnv]),
        ca,
        models: modelsAt(upstream, config.llm.models),
      }),
    );
  }
  for (const [name, server] of config.mcp.servers) {
    const { apiKeyFile, apiKeyEnv } = server;
    const key = keyOf(apiKeyFile, apiKeyEnv === undefined ? undefined : env[apiKeyEnv]);
    looks.push(() => lookAtToolServer({ path: ['mcp', 'servers', name], server, key }));
  }
  const results = await someAtATime(looks);
  // Loading the client of the API server takes long enough to make others late.
  for (const namespace of namespaces) results.push(await lookAtServices(namespace));
  return results.flat();
}

/** A file comes first, as in the egress. */
function keyOf(file: string | undefined, named: string | undefined): string | undefined {
  try {
    return (file === undefined ? named : readFileSync(file, 'utf8').trim()) || undefined;
  } catch {
    return undefined;
  }
}

async function someAtATime(looks: readonly Look[]): Promise<(readonly LiveResult[])[]> {
  const results: (readonly LiveResult[])[] = new Array(looks.length);
  let next = 0;
  const work = async (): Promise<void> => {
    for (let index = next++; index < looks.length; index = next++) results[index] = await looks[index]!();
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, looks.length) }, work));
  return results;
}

async function lookAtCluster(name: string, cluster: ClusterConfig): Promise<readonly LiveResult[]> {
  const path = ['outbound', 'clusters', name];
  const found = await endpointsOf(path, cluster);
  if ('level' in found) return [found];
  const { endpoints, serviceName } = found;
  const tls = cluster.tls && new TlsConnector(name, cluster.tls, serviceName, NOBODY);
  const connect: Connect | undefined = tls && ((address) => tls.connect(address));
  try {
    const looks = endpoints.slice(0, MAX_ENDPOINTS).map(({ path: at, address }) => async () => [
      await lookAtEndpoint(at, address, 'the agent there', connect),
    ]);
    const results = (await someAtATime(looks)).flat();
    const more = endpoints.length - MAX_ENDPOINTS;
    if (more <= 0) return results;
    return [
      ...results,
      warning(path, name, `${more} more endpoints were not looked at`, 'look at them from their pods'),
    ];
  } finally {
    tls?.stop();
  }
}

interface Endpoints {
  readonly endpoints: readonly { readonly path: Path; readonly address: string }[];
  /** The name that their certificates are for. */
  readonly serviceName: string | undefined;
}

async function endpointsOf(path: Path, cluster: ClusterConfig): Promise<Endpoints | LiveResult> {
  const { endpoints, dns, kubernetes } = cluster;
  if (kubernetes !== undefined) return kubernetesEndpoints([...path, 'kubernetes'], kubernetes);
  if (dns !== undefined) return dnsEndpoints([...path, 'dns'], dns);
  const listed = (endpoints ?? []).map((address, index) => ({
    path: [...path, 'endpoints', index],
    address,
  }));
  return { endpoints: listed, serviceName: undefined };
}

async function dnsEndpoints(path: Path, dns: string): Promise<Endpoints | LiveResult> {
  const where = parseAddress(dns);
  if (where.kind === 'unix') return { endpoints: [], serviceName: undefined };
  const unknown = await unresolved(path, where.host);
  if (unknown !== undefined) return unknown;
  const addresses = await lookup(where.host, { all: true });
  const endpoints = addresses.map(({ address }) => ({ path, address: formatHostPort(address, where.port) }));
  return { endpoints, serviceName: where.host };
}

async function kubernetesEndpoints(
  path: Path,
  settings: NonNullable<ClusterConfig['kubernetes']>,
): Promise<Endpoints | LiveResult> {
  const api = new KubernetesApi(settings);
  const late = new Error(`the API server gives no answer within ${LOOK_MS / 1000} s`);
  const listed = await within(
    LOOK_MS,
    api.list().catch((error: Error) => error),
    late,
  );
  if (listed instanceof Error)
    return problem(
      path,
      api.service,
      listed.message,
      'docs/tls.md has the Role that the service account needs',
    );
  const { addresses } = readSlices(listed.slices, { port: settings.port, zone: undefined });
  if (addresses.length === 0) {
    const remedy = 'check the names of Service and namespace, its port, and that its pods are ready';
    return problem(path, api.service, 'the Service has no ready endpoint', remedy);
  }
  return { endpoints: addresses.map((address) => ({ path, address })), serviceName: serviceNameOf(settings) };
}
