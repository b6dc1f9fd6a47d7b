/** Describes the processes of the local system: programs, environments and configuration files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Environment } from '../process/environment.ts';
import type { ProcessDescription } from './process.ts';
import { accepts, answersOk } from './readiness.ts';
import { TOOLS_KEY } from './sandbox.ts';
import { llmConfig, mcpConfig, sidecarConfig } from './sidecar-config.ts';
import {
  type LlmReplica,
  type LocalAgent,
  type LocalModel,
  type LocalSystem,
  modelUrl,
  type SidecarPorts,
} from './system.ts';

/** The delay of each task of a slowed agent. */
const slowByMs = 3000;

/** The time for running tasks when the system stops. */
const drainTimeout = '3s';

/** The processes of a local system, in groups that start one after the other. */
export interface SystemProcesses {
  agents: ProcessDescription[];
  sidecars: ProcessDescription[];
  gateway: ProcessDescription;
}

/**
 * Describes the processes of a system and writes the configuration files of its sidecars.
 *
 * @param folder the folder of those files
 */
export function describeProcesses(
  system: LocalSystem,
  environment: Environment,
  folder: string,
): SystemProcesses {
  const env = neutral(environment);
  const sidecarOf = (name: string, ports: SidecarPorts, agent?: LocalAgent): ProcessDescription => {
    const file = join(folder, `${name}.yaml`);
    const app = `127.0.0.1:${agent?.port ?? system.gateway.healthPort}`;
    // The sidecar holds the key; the agent gets a placeholder. A tool runner asks no model.
    const asksModels = agent !== undefined && agent.needsSandbox !== true && system.llm.length === 0;
    const key = asksModels ? keyOf(system.model) : undefined;
    const shared = system.llm.map(({ listen }) => `http://127.0.0.1:${listen}/v1`);
    const models = shared.length > 0 ? shared : [modelUrl(system.model)];
    const tasks = {
      file: join(folder, 'tasks.db'),
      agentTypes: agent?.types ?? [],
      outlive: system.layout.outlives === true,
    };
    const config = sidecarConfig(name, ports, app, system.agents, models, key !== undefined, tasks);
    writeFileSync(file, stringify({ ...config, ...mcpConfig(ports, system.mcp) }));
    // A sidecar is ready when the process beside it is; the gateway starts after its sidecar.
    // One whose tools may be out of order on this machine holds up nothing.
    const probe = agent === undefined || agent.needsSandbox === true ? 'live' : 'ready';
    return {
      name: `${name}'s sidecar`,
      file: 'sidecar/main.ts',
      args: ['run', '--config', file],
      env: {
        ...env,
        ...(key === undefined ? {} : { OPENAI_API_KEY: key }),
        ...(ports.mcp === undefined ? {} : toolsKey(system)),
      },
      isReady: () => answersOk(`http://127.0.0.1:${ports.health}/healthz/${probe}`),
    };
  };
  const sidecars = system.agents.flatMap((agent) =>
    agent.sidecar === undefined ? [] : [sidecarOf(agent.name, agent.sidecar, agent)],
  );
  const own = system.gateway.sidecar;
  return {
    agents: [
      ...(system.model.kind === 'offline' ? [provider(system.model.port, env)] : []),
      ...system.llm.map((replica) => llmProcess(replica, system.model, env, folder)),
      ...system.agents.map((agent) => agentProcess(agent, system, env)),
    ],
    sidecars: own === undefined ? sidecars : [...sidecars, sidecarOf('gateway', own)],
    gateway: gatewayProcess(system, env, controlSocket(folder)),
  };
}

/** The socket on which the gateway reaches the starter. */
export function controlSocket(folder: string): string {
  return join(folder, 'control.sock');
}

function provider(port: number, env: Record<string, string>): ProcessDescription {
  return {
    name: 'the offline provider',
    file: 'agents/provider/main.ts',
    args: [],
    env: { ...env, PROVIDER_PORT: String(port) },
    isReady: () => answersOk(`http://127.0.0.1:${port}/v1/models`),
  };
}

function keyOf(model: LocalModel): string | undefined {
  return model.kind === 'provider' ? model.apiKey : undefined;
}

/** The egress as a service. It alone has the key. */
function llmProcess(
  replica: LlmReplica,
  model: LocalModel,
  env: Record<string, string>,
  folder: string,
): ProcessDescription {
  const file = join(folder, `${replica.name}.yaml`);
  const key = keyOf(model);
  writeFileSync(file, stringify(llmConfig(replica, modelUrl(model), key !== undefined)));
  return {
    name: replica.name,
    file: 'sidecar/main.ts',
    args: ['llm', '--config', file],
    env: key === undefined ? env : { ...env, OPENAI_API_KEY: key },
    isReady: () => answersOk(`http://127.0.0.1:${replica.health}/healthz/ready`),
  };
}

function agentProcess(
  { name, file, port, sidecar, usesTools, needsSandbox, env: own = {} }: LocalAgent,
  system: LocalSystem,
  env: Record<string, string>,
): ProcessDescription {
  const { model, agents } = system;
  const tools = usesTools && sidecar && agents.find((one) => one.needsSandbox);
  return {
    name,
    file,
    args: [],
    env: {
      ...env,
      ...own,
      AGENT_LISTEN: `127.0.0.1:${port}`,
      AGENT_DRAIN_TIMEOUT: drainTimeout,
      AGENT_SLOW_BY: `${slowByMs}ms`,
      ...(sidecar === undefined ? {} : { AGENT_OUTBOUND: `127.0.0.1:${sidecar.outbound}` }),
      ...(needsSandbox ? toolsKey(system) : {}),
      ...(tools && sidecar.mcp === undefined ? { AGENT_TOOLS: `${tools.service}-agent` } : {}),
      ...(tools && sidecar.mcp !== undefined
        ? { AGENT_MCP: 'tools', OUTRIGGER_MCP_URL: `http://127.0.0.1:${sidecar.mcp}/mcp` }
        : {}),
      ...(needsSandbox ? {} : modelEnvironment(model, sidecar)),
      ...(model.kind === 'provider' && model.name !== undefined ? { OPENAI_MODEL: model.name } : {}),
    },
    isReady: () => accepts(port),
  };
}

function toolsKey({ mcp }: LocalSystem): Record<string, string> {
  return mcp === undefined ? {} : { [TOOLS_KEY]: mcp.key };
}

/** The agent beside a sidecar sends model requests through it: the sidecar holds the key, and does the retries. */
function modelEnvironment(model: LocalModel, sidecar: SidecarPorts | undefined): Record<string, string> {
  if (sidecar !== undefined) {
    return {
      OPENAI_BASE_URL: `http://127.0.0.1:${sidecar.llm}/v1`,
      OPENAI_API_KEY: 'held-by-the-sidecar',
      OPENAI_MAX_RETRIES: '0',
    };
  }
  return {
    OPENAI_BASE_URL: modelUrl(model),
    OPENAI_API_KEY: model.kind === 'offline' ? 'offline' : model.apiKey,
    OPENAI_MAX_RETRIES: '2',
  };
}

function gatewayProcess(
  { layout, agents, gateway }: LocalSystem,
  env: Record<string, string>,
  control: string,
): ProcessDescription {
  const known: Record<string, { address: string; authority: string }> = {};
  for (const { service, types, port } of agents) {
    // Without sidecars there is no balancing: the first agent of a type gets every task.
    const address = `127.0.0.1:${gateway.sidecar?.outbound ?? port}`;
    for (const type of types) known[type] ??= { address, authority: `${service}-agent` };
  }
  const links = agents.map(({ name, sidecar }) => ({ name, sidecar }));
  links.unshift({ name: 'gateway', sidecar: gateway.sidecar });
  const url = `http://127.0.0.1:${gateway.port}`;
  return {
    name: 'the gateway',
    file: 'agents/gateway/main.ts',
    args: [],
    env: {
      ...env,
      GATEWAY_AGENTS: JSON.stringify(known),
      GATEWAY_DEFAULT_AGENT: layout.usualAgent,
      PORT: String(gateway.port),
      GATEWAY_DRAIN_TIMEOUT: drainTimeout,
      GATEWAY_HEALTH_LISTEN: `127.0.0.1:${gateway.healthPort}`,
      GATEWAY_LOCAL_SYSTEM: control,
      GATEWAY_LINKS: links
        .filter(({ sidecar }) => sidecar !== undefined)
        .map(({ name, sidecar }) => `Sidecar of ${name}=http://127.0.0.1:${sidecar!.admin}/`)
        .join(','),
    },
    // Every agent is healthy, checked along the route of a task: the whole system works.
    isReady: async () => {
      const found = await (await fetch(`${url}/api/v1/health`)).json();
      const agents = Object.values(found as Record<string, { healthy: boolean }>);
      return agents.every(({ healthy }) => healthy);
    },
  };
}

/** Leaves out the shell's settings for other processes, and keys. */
function neutral(environment: Environment): Record<string, string> {
  const foreign =
    /^(OPENAI_|OUTRIGGER_|AGENT_|GATEWAY_|PROVIDER_|PORT$|HOST$|OTEL_SERVICE_NAME$)|_AGENT_ADDR$/;
  const kept = Object.entries(environment).filter(
    ([name, value]) => value !== undefined && !foreign.test(name),
  );
  return Object.fromEntries(kept) as Record<string, string>;
}
