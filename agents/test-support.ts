/** Starts agents for tests, and calls them. */
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import { pino } from 'pino';
import type { Test } from 'tap';
import { type AgentClient, type CallOptions, connectAgent } from './protocol/agent-client.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from './protocol/messages.ts';
import { type Provider, startProvider } from './provider/server.ts';
import type { Agent } from './runtime/agent.ts';
import { type AgentServer, startAgentServer } from './runtime/server.ts';
import { type RuntimeSettings, readSettings } from './runtime/settings.ts';

/** Helpers for the tests of agents: real servers on free ports that end with the test. */

export async function testProvider(test: Test): Promise<Provider> {
  const provider = await startProvider('127.0.0.1', 0);
  test.teardown(() => provider.close());
  return provider;
}

export interface TestAgent {
  server: AgentServer;
  client: AgentClient;
  /** Every line that the runtime logged, as text. */
  log: string[];
}

/** Starts an agent in this process, with simple defaults for what the test leaves out. */
export async function testAgent(
  test: Test,
  agent: Partial<Agent>,
  settings: Partial<RuntimeSettings> & { baseUrl?: string } = {},
): Promise<TestAgent> {
  const log: string[] = [];
  const { baseUrl = 'http://127.0.0.1:1/v1', ...others } = settings;
  const server = await startAgentServer(
    {
      name: 'test-agent',
      version: '1.2.3',
      processTask: async ({ input }) => ({ output: input }),
      async *streamProcess({ input }) {
        yield input;
      },
      ...agent,
    },
    {
      ...readSettings({ AGENT_LISTEN: '127.0.0.1:0' }),
      model: { baseUrl, apiKey: 'test-key-0123', name: 'test-model', maxRetries: 0 },
      ...others,
    },
    pino({ level: 'debug' }, { write: (line: string) => void log.push(line) }),
  );
  const client = connectAgent(server.address);
  test.teardown(async () => {
    client.close();
    await server.stop(0);
  });
  return { server, client, log };
}

/** A unary call as a promise. Rejects with the ServiceError. */
export function processTask(
  client: AgentClient,
  task: Partial<TaskRequest>,
  options: CallOptions = {},
  metadata: Metadata = new Metadata(),
): Promise<TaskResponse> {
  return new Promise((resolve, reject) => {
    client.ProcessTask(task, metadata, options, (error, answer) =>
      error ? reject(error) : resolve(answer!),
    );
  });
}

/** The chunks of a stream; rejects with the ServiceError that ended it. */
export async function streamProcess(
  client: AgentClient,
  task: Partial<TaskRequest>,
  options: CallOptions = {},
): Promise<TaskChunk[]> {
  const chunks: TaskChunk[] = [];
  for await (const chunk of client.StreamProcess(task, new Metadata(), options)) chunks.push(chunk);
  return chunks;
}

/** The ServiceError of a call that has to fail. */
export async function failureOf(call: Promise<unknown>): Promise<ServiceError> {
  return call.then(
    () => {
      throw new Error('the call succeeded');
    },
    (error: ServiceError) => error,
  );
}

/**
 * Waits until the condition is true. It has no time limit of its own: the test runner's applies, and its report shows
 * where the test stopped.
 */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 5));
}
