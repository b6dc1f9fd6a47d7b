import type { LocalAgent, SidecarPorts } from './system.ts';

/**
 * Where the local system differs from the defaults, it is to make faults and recovery visible within seconds at a few
 * tasks a second: every other call goes to each replica, and an ejection lasts a third of the usual time.
 */
const visible = { balancer: 'round_robin', outlier_detection: { base_ejection_time: '10s' } };

/** Calls that are running when the system stops get this long. */
const drainTimeout = '3s';

/**
 * The configuration of one sidecar of the local system: calls go by authority (`research-agent`) to the
 * inbound sides of the sidecars of those agents.
 *
 * @param app `host:port` of what it stands beside: an agent, or where the gateway says how it is
 * @param model the base URL of the provider that the agent's model is asked at
 */
export function sidecarConfig(
  name: string,
  ports: SidecarPorts,
  app: string,
  agents: readonly LocalAgent[],
  model: string,
): object {
  const clusters: Record<string, { endpoints: string[] }> = {};
  for (const { type, sidecar } of agents) {
    if (sidecar === undefined) continue;
    clusters[type] ??= { ...visible, endpoints: [] };
    clusters[type].endpoints.push(`127.0.0.1:${sidecar.inbound}`);
  }
  const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
  return {
    name,
    version: '1.0.0',
    inbound: { ...at(ports.inbound), app },
    outbound: {
      ...at(ports.outbound),
      routes: Object.keys(clusters).map((type) => ({ match: { authority: `${type}-agent` }, cluster: type })),
      clusters,
    },
    llm: {
      ...at(ports.llm),
      upstreams: [{ name: providerName(model), url: model, api_key_env: 'OPENAI_API_KEY' }],
    },
    admin: at(ports.admin),
    metrics: at(ports.metrics),
    health: at(ports.health),
    drain: { timeout: drainTimeout },
  };
}

/** The provider's name in messages and metrics: its host, which the person has set. */
function providerName(url: string): string {
  const { hostname } = new URL(url);
  return hostname === '127.0.0.1' || hostname.startsWith('[') ? 'local' : hostname;
}
