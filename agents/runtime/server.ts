/** The gRPC server of an agent. */
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import {
  agentService,
  healthService,
  messageLimits,
  packageDefinition,
  reflectionService,
  tasksServiceName,
  toolsServiceName,
} from '../protocol/definitions.ts';
import type { Agent, RunningAgent } from './agent.ts';
import { Health, type MoreHealth } from './health.ts';
import { McpServers } from './mcp-servers.ts';
import { loadModelClient } from './model.ts';
import { AgentChannels } from './other-agents.ts';
import { reflection } from './reflection.ts';
import type { RuntimeSettings } from './settings.ts';
import { streamHandler, unaryHandler } from './task-service.ts';
import { ToolRunnerChannel } from './tools.ts';
import { removeStaleSocket } from './unix-socket.ts';

export interface AgentServer extends RunningAgent {
  /** A fault for demonstrations: delays each new task by this time; 0 turns it off. */
  delayTasks(byMs: number): void;
}

/** What an agent of this repository serves beside its tasks. */
export interface MoreServices extends MoreHealth {
  /** By name. `stopping` fires when what runs has to end. */
  implement?(stopping: AbortSignal): readonly {
    name: string;
    definition: ServiceDefinition;
    implementation: UntypedServiceImplementation;
  }[];
}

/** The time for aborted tasks to send their last status. */
const farewellMs = 500;

/** @throws Error if the address cannot be bound */
export async function startAgentServer(
  agent: Agent,
  settings: RuntimeSettings,
  log: Logger,
  more: MoreServices = {},
): Promise<AgentServer> {
  const channels = new AgentChannels(settings.outbound);
  const tools = settings.tools === '' ? undefined : new ToolRunnerChannel(settings.outbound, settings.tools);
  const stopping = new AbortController();
  const health = new Health(agent, more);
  const delay = { ms: 0 };
  const mcp = await McpServers.load(settings.mcp);
  const { model } = settings;
  const service = { agent, log, delay, model, channels, tools, mcp, stopping: stopping.signal };

  const server = new Server(messageLimits);
  server.addService(agentService, {
    ProcessTask: unaryHandler(service),
    StreamProcess: streamHandler(service),
    HealthCheck: health.agentCheck,
  });
  server.addService(healthService, health.service);
  const others = more.implement?.(stopping.signal) ?? [];
  for (const { definition, implementation } of others) server.addService(definition, implementation);
  const unserved = [tasksServiceName, toolsServiceName].filter(
    (name) => !others.some((other) => other.name === name),
  );
  server.addService(reflectionService, reflection(packageDefinition, unserved));

  await Promise.all([loadModelClient(), removeStaleSocket(settings.listen)]);
  const port = await bind(server, settings.listen);
  const address = settings.listen.startsWith('unix:')
    ? settings.listen
    : settings.listen.replace(/:\d+$/, `:${port}`);

  const stop = async (limitMs: number): Promise<boolean> => {
    health.stop();
    const closed = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
    let inTime = await within(closed, limitMs);
    if (!inTime) {
      stopping.abort();
      await within(closed, farewellMs);
      inTime = false;
    }
    server.forceShutdown();
    channels.close();
    tools?.close();
    return inTime;
  };
  const delayTasks = (byMs: number) => {
    delay.ms = byMs;
  };
  return { address, stop, delayTasks };
}

function bind(server: Server, listen: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(listen, ServerCredentials.createInsecure(), (error, port) => {
      if (error) reject(error);
      else resolve(port);
    });
  });
}

/** Resolves true if it happened within the limit. */
async function within(happening: Promise<void>, limitMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, limitMs, false);
  });
  const inTime = await Promise.race([happening.then(() => true as const), late]);
  clearTimeout(timer);
  return inTime;
}
