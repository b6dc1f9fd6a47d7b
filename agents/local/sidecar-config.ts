/** The configuration of the local system's sidecars. */
import { TOOLS_KEY } from './sandbox.ts';
import type { LlmReplica, LocalAgent, LocalMcp, SidecarPorts } from './system.ts';

/**
 * The differences from the defaults make faults and recovery visible within seconds at a few tasks a second: replicas
 * take turns, and an ejection lasts a third of the usual time.
 */
const visible = { balancer: 'round_robin', outlier_detection: { base_ejection_time: '10s' } };

/**
 * The bus of the system is a file: tasks with `Prefer: respond-async` outlive the gateway, and the replica that runs them. The
 * lease is shorter than usual, so that the task of a stopped replica runs again while somebody watches.
 */
const consume = { places: 4, lease: '5s', max_runs: 5, retry_delay: { base: '200ms', max: '2s' } };

/** The bus of one sidecar. */
export interface LocalTasks {
  readonly file: string;
  /** The types whose tasks the process beside the sidecar runs. */
  readonly agentTypes: readonly string[];
  /** Whether calls of agents become tasks, and the sidecar keeps the answers of models until their task ends. */
  readonly outlive: boolean;
}

/** The time for running calls when the system stops. */
const drainTimeout = '3s';

/**
 * The configuration of one sidecar of the local system: it routes calls by authority (`research-agent`) to the inbound
 * listeners of those agents' sidecars.
 *
 * @param app `host:port` of the process beside it: an agent, or the gateway's health service
 * @param models the base URLs for the agent's model requests, the preferred one first
 * @param holdsKey whether the sidecar has the provider's key in OPENAI_API_KEY
 */
export function sidecarConfig(
  name: string,
  ports: SidecarPorts,
  app: string,
  agents: readonly LocalAgent[],
  models: readonly string[],
  holdsKey: boolean,
  tasks: LocalTasks,
): object {
  const clusters: Record<string, { endpoints: string[] } | { bus: string }> = {};
  for (const { service, types, sidecar } of agents) {
    if (sidecar === undefined) continue;
    const [type] = types;
    const cluster = (clusters[service] ??=
      tasks.outlive && type !== undefined && types.length === 1
        ? { bus: type }
        : { ...visible, endpoints: [], ...(types.length > 1 ? { agent_types: types } : {}) });
    if ('endpoints' in cluster) cluster.endpoints.push(`127.0.0.1:${sidecar.inbound}`);
  }
  const peers = agents.flatMap(({ name: peer, sidecar, port }) =>
    sidecar === undefined
      ? []
      : [
          { address: `127.0.0.1:${sidecar.inbound}`, name: peer, page: `http://127.0.0.1:${sidecar.admin}/` },
          { address: `127.0.0.1:${port}`, name: peer },
        ],
  );
  const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
  return {
    name,
    version: '1.0.0',
    inbound: {
      ...at(ports.inbound),
      app,
      ...(tasks.agentTypes.length > 1
        ? { agent_types: Object.fromEntries(tasks.agentTypes.map((type) => [type, {}])) }
        : {}),
    },
    outbound: {
      ...at(ports.outbound),
      routes: Object.keys(clusters).flatMap((service) =>
        [`${service}-agent`, service].map((authority) => ({ match: { authority }, cluster: service })),
      ),
      clusters,
    },
    llm: {
      ...at(ports.llm),
      upstreams: upstreamsOf(models, holdsKey),
      // A request that a killed replica of the egress took with it goes to the other one, at the price of being paid twice.
      ...(models.length > 1 ? { retry: { resend: true } } : {}),
    },
    bus: { url: `file:${tasks.file}`, consume: { agent_types: tasks.agentTypes, ...consume } },
    ...(tasks.outlive ? { journal: { store: 'bus' } } : {}),
    admin: { ...at(ports.admin), peers },
    metrics: at(ports.metrics),
    health: at(ports.health),
    drain: { timeout: drainTimeout },
  };
}

/** The tool runner as a tool server of a sidecar whose agent calls it by MCP; nothing for others. */
export function mcpConfig({ mcp }: SidecarPorts, runner: LocalMcp | undefined): object {
  if (mcp === undefined || runner === undefined) return {};
  const tools = { url: `http://127.0.0.1:${runner.port}/mcp`, api_key_env: TOOLS_KEY, trust_hints: true };
  return { mcp: { listen: `127.0.0.1:${mcp}`, servers: { tools } } };
}

/** The egress as a service, whose replicas share the key and the limits of all. */
export function llmConfig(
  { name, listen, admin, metrics, health }: LlmReplica,
  model: string,
  holdsKey: boolean,
): object {
  const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
  return {
    name,
    llm: { ...at(listen), upstreams: upstreamsOf([model], holdsKey) },
    admin: at(admin),
    metrics: at(metrics),
    health: at(health),
    drain: { timeout: drainTimeout },
  };
}

function upstreamsOf(urls: readonly string[], holdsKey: boolean): object[] {
  return urls.map((url, at) => ({
    name: `${providerName(url)}${at === 0 ? '' : `-${at + 1}`}`,
    url,
    api_key_env: holdsKey ? 'OPENAI_API_KEY' : null,
  }));
}

/** The provider's name in messages and metrics: the host that the user has set. */
function providerName(url: string): string {
  const { hostname } = new URL(url);
  return hostname === '127.0.0.1' || hostname.startsWith('[') ? 'local' : hostname;
}
