import type { LocalAgent, SidecarPorts } from './system.ts';

/** Calls that are running when the system stops get this long. */
const drainTimeout = '3s';

/**
 * The configuration of one sidecar of the local system: calls go by authority (`research-agent`) to the
 * inbound sides of the sidecars of those agents.
 *
 * @param app `host:port` of the agent it stands beside; none beside the gateway, which serves no gRPC
 */
export function sidecarConfig(
  name: string,
  ports: SidecarPorts,
  app: string | undefined,
  agents: readonly LocalAgent[],
): object {
  const clusters: Record<string, { endpoints: string[] }> = {};
  for (const { type, sidecar } of agents) {
    if (sidecar === undefined) continue;
    clusters[type] ??= { endpoints: [] };
    clusters[type].endpoints.push(`127.0.0.1:${sidecar.inbound}`);
  }
  const at = (port: number) => ({ listen: `127.0.0.1:${port}` });
  return {
    name,
    version: '1.0.0',
    inbound: { ...at(ports.inbound), ...(app === undefined ? {} : { app }) },
    outbound: {
      ...at(ports.outbound),
      routes: Object.keys(clusters).map((type) => ({ match: { authority: `${type}-agent` }, cluster: type })),
      clusters,
    },
    llm: at(ports.llm),
    admin: at(ports.admin),
    metrics: at(ports.metrics),
    health: at(ports.health),
    drain: { timeout: drainTimeout },
  };
}
