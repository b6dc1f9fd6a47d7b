/** Plans a local system: its agents and all ports. */
import { type Environment, wholeNumber } from '../process/environment.ts';
import type { Layout, Member } from './layouts/layout.ts';
import type { Ports } from './ports.ts';

/** The ports of a sidecar of the local system, all on 127.0.0.1. */
export interface SidecarPorts {
  inbound: number;
  outbound: number;
  llm: number;
  admin: number;
  metrics: number;
  health: number;
  /** Where its agent calls tools by MCP; undefined for others. */
  mcp?: number;
}

/** The MCP listener of the tool runner. */
export interface LocalMcp {
  readonly port: number;
  /** The sidecars hold it. */
  readonly key: string;
}

export interface LocalAgent extends Member {
  port: number;
  /** Undefined if the system runs without sidecars. */
  sidecar: SidecarPorts | undefined;
}

/** The plan of a local system: its processes and their ports. */
export interface LocalSystem {
  layout: Layout;
  agents: readonly LocalAgent[];
  gateway: {
    port: number /** Where its sidecar asks how it is. */;
    healthPort: number;
    sidecar: SidecarPorts | undefined;
  };
  model: LocalModel;
  /** Undefined where no agent calls tools by MCP. */
  mcp: LocalMcp | undefined;
  /** The replicas of the egress as a service; none where each sidecar asks the provider itself. */
  llm: readonly LlmReplica[];
}

export interface LlmReplica {
  name: string;
  listen: number;
  admin: number;
  metrics: number;
  health: number;
}

/** The provider that answers the agents' model requests. */
export type LocalModel =
  | { kind: 'offline'; port: number }
  | { kind: 'provider'; baseUrl: string; apiKey: string; name: string | undefined };

/** The documented ports, which the gateway's sidecar gets if they are free. */
const usualPorts = {
  inbound: 15006,
  outbound: 15001,
  llm: 15002,
  admin: 15000,
  metrics: 15020,
  health: 15021,
};

/** Assigns all ports. @throws SettingError if PORT cannot be used */
export async function planSystem(
  environment: Environment,
  ports: Ports,
  withSidecars: boolean,
  layout: Layout,
  mcp?: LocalMcp,
): Promise<LocalSystem> {
  const wanted = wholeNumber(environment, 'PORT', 8080, [1, 65_535]);
  const gateway = {
    port: await ports.preferably(wanted, 'the gateway', !environment['PORT']),
    healthPort: await ports.any(),
    sidecar: withSidecars ? await usualSidecarPorts(ports) : undefined,
  };
  const agents: LocalAgent[] = [];
  for (const member of layout.members) {
    const sidecar = withSidecars ? await anySidecarPorts(ports) : undefined;
    if (sidecar !== undefined && mcp !== undefined && member.usesTools === 'mcp')
      sidecar.mcp = await ports.any();
    agents.push({ ...member, port: await ports.any(), sidecar });
  }
  const llm: LlmReplica[] = [];
  for (let at = 1; withSidecars && at <= (layout.llmReplicas ?? 0); at++) {
    const [listen, admin, metrics, health] = await Promise.all(Array.from({ length: 4 }, () => ports.any()));
    llm.push({ name: `llm-${at}`, listen: listen!, admin: admin!, metrics: metrics!, health: health! });
  }
  return { layout, agents, gateway, mcp, llm, model: await planModel(environment, ports) };
}

async function planModel(environment: Environment, ports: Ports): Promise<LocalModel> {
  const apiKey = environment['OPENAI_API_KEY'];
  if (!apiKey) return { kind: 'offline', port: await ports.any() };
  const baseUrl = environment['OPENAI_BASE_URL'] || 'https://api.openai.com/v1';
  return { kind: 'provider', baseUrl, apiKey, name: environment['OPENAI_MODEL'] || undefined };
}

export function modelUrl(model: LocalModel): string {
  return model.kind === 'offline' ? `http://127.0.0.1:${model.port}/v1` : model.baseUrl;
}

async function usualSidecarPorts(ports: Ports): Promise<SidecarPorts> {
  const given = {} as SidecarPorts;
  for (const [listener, port] of Object.entries(usualPorts) as [keyof typeof usualPorts, number][]) {
    given[listener] = await ports.preferably(port, `the ${listener} listener of the gateway's sidecar`, true);
  }
  return given;
}

async function anySidecarPorts(ports: Ports): Promise<SidecarPorts> {
  const given = {} as SidecarPorts;
  for (const listener of Object.keys(usualPorts) as (keyof typeof usualPorts)[])
    given[listener] = await ports.any();
  return given;
}
