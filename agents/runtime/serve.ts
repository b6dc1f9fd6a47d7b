/** The entry point of agent processes. */
import type { Logger } from 'pino';
import { endProcess } from '../../sidecar/node/end-process.ts';
import { createLogger } from '../process/logger.ts';
import { loggedError } from '../process/redact.ts';
import { endOnUnexpectedErrors } from '../process/unexpected.ts';
import { startTracing, stopTracing } from '../tracing/tracing.ts';
import type { Agent, RunningAgent } from './agent.ts';
import { agentOf, type Domain, healthOf } from './domain.ts';
import { type AgentServer, type MoreServices, startAgentServer } from './server.ts';
import { readSettings } from './settings.ts';

/**
 * Runs an agent as this process: listens on AGENT_LISTEN (127.0.0.1:50051 by default), and on SIGTERM or SIGINT
 * finishes the running tasks within AGENT_DRAIN_TIMEOUT. A second signal ends it at once. With AGENT_SLOW_BY set,
 * SIGUSR2 slows the agent down, and a second SIGUSR2 restores its speed: a fault for demonstrations. settings.ts lists
 * the environment variables.
 */
export async function serveAgent(agent: Agent): Promise<void> {
  await serve(agent, {});
}

/**
 * As `serveAgent`, for several agents in one process, which a task's `agent_type` tells apart. Name them in the sidecars,
 * too (`agent_types`): then none of them is hurt by what another does.
 */
export async function serveDomain(domain: Domain): Promise<void> {
  await serve(agentOf(domain), healthOf(domain));
}

async function serve(agent: Agent, more: MoreServices): Promise<void> {
  const log = createLogger(agent.name);
  endOnUnexpectedErrors(log);
  try {
    const settings = readSettings(process.env);
    await startTracing(agent.name, process.env);
    const server = await startAgentServer(agent, settings, log, more);
    if (settings.slowByMs > 0) listenToSlow(server, settings.slowByMs, log);
    let signalled = false;
    const stop = async (signal: NodeJS.Signals) => {
      if (signalled) endProcess(1);
      signalled = true;
      log.info({ signal, limitMs: settings.drainTimeoutMs }, 'shutting down; waiting for the running tasks');
      const finished = await server.stop(settings.drainTimeoutMs);
      await stopTracing(1_000);
      log.info({ finished }, 'stopped');
      endProcess(0);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
    // Last, because a reader of this line may send a signal at once.
    log.info({ address: server.address, version: agent.version }, 'listening');
  } catch (error) {
    log.fatal({ err: loggedError(error, [process.env['OPENAI_API_KEY'] ?? '']) }, 'cannot start');
    process.exitCode = 1;
  }
}

/**
 * Starts the agents of a domain in this process, for their tests; otherwise as `startAgent`.
 *
 * @throws as `startAgent`
 */
export async function startDomain(domain: Domain, listen = '127.0.0.1:0'): Promise<RunningAgent> {
  const settings = { ...readSettings(process.env), listen };
  return startAgentServer(agentOf(domain), settings, createLogger(domain.name), healthOf(domain));
}

/**
 * Starts an agent in this process, for its tests. The environment gives it its settings, as for `serveAgent`.
 *
 * @param listen `host:port` or `unix:/path`; a free port of 127.0.0.1 if omitted
 * @throws SettingError for an invalid variable; Error if the address cannot be bound
 */
export async function startAgent(agent: Agent, listen = '127.0.0.1:0'): Promise<RunningAgent> {
  return startAgentServer(agent, { ...readSettings(process.env), listen }, createLogger(agent.name));
}

function listenToSlow(server: AgentServer, byMs: number, log: Logger): void {
  let slow = false;
  process.on('SIGUSR2', () => {
    slow = !slow;
    server.delayTasks(slow ? byMs : 0);
    log.warn({ byMs }, slow ? 'slowed down by SIGUSR2' : 'full speed again');
  });
}

export type { TaskRequest, TaskResponse } from '../protocol/messages.ts';
export type { Agent, RunningAgent, TaskResult } from './agent.ts';
export { answerWithTools, type Conversation, streamWithTools } from './answer-with-tools.ts';
export { type CallAgentOptions, callAgent, type NewTask, streamAgent } from './call-agent.ts';
export type { Domain, DomainAgent } from './domain.ts';
export { AgentError } from './errors.ts';
export { type ReadAnswer, readAnswer } from './read-answer.ts';
export type { TaskContext } from './task-context.ts';
