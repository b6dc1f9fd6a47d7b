import { createLogger } from '../logger.ts';
import type { Agent } from './agent.ts';
import { loggedError } from './redact.ts';
import { startAgentServer } from './server.ts';
import { readSettings } from './settings.ts';

/**
 * Runs an agent as this process: listens on AGENT_LISTEN (127.0.0.1:50051 by default), and on SIGTERM or
 * SIGINT finishes the running tasks within AGENT_DRAIN_TIMEOUT. A second signal ends it at once.
 * settings.ts lists the environment variables.
 */
export async function serveAgent(agent: Agent): Promise<void> {
  const log = createLogger(agent.name);
  try {
    const settings = readSettings(process.env);
    const server = await startAgentServer(agent, settings, log);
    log.info({ address: server.address, version: agent.version }, 'listening');

    let signalled = false;
    const stop = async (signal: NodeJS.Signals) => {
      if (signalled) process.exit(1);
      signalled = true;
      log.info({ signal, limitMs: settings.drainTimeoutMs }, 'finishing the running tasks');
      const finished = await server.stop(settings.drainTimeoutMs);
      log.info({ finished }, 'stopped');
      process.exit(0);
    };
    process.on('SIGTERM', stop);
    process.on('SIGINT', stop);
  } catch (error) {
    log.fatal({ err: loggedError(error, [process.env['OPENAI_API_KEY'] ?? '']) }, 'cannot start');
    process.exitCode = 1;
  }
}

export type { TaskRequest } from '../protocol/messages.ts';
export type { TaskResult } from './agent.ts';
export { AgentError } from './errors.ts';
export type { TaskContext } from './task-context.ts';
