// Two replicas of an example's agent, each beside its sidecar, the offline provider behind them, and a caller with a
// sidecar of its own in front.
import { type CallOptions, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { type AgentClient, connectAgent } from '../../agents/protocol/agent-client.ts';
import type { TaskRequest, TaskResponse } from '../../agents/protocol/messages.ts';
import { type Provider, startProvider } from '../../agents/provider/server.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { PATIENCE_MS } from '../../scripts/harness/patience.ts';
import type { TestProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';

/** Starts an agent with this environment. */
export type StartAgent = (env: Record<string, string>) => TestProcess;

interface Replica {
  agent: TestProcess;
  sidecar: Sidecar;
}

export interface ExampleScene {
  provider: Provider;
  replicas: readonly [Replica, Replica];
  client: AgentClient;
}

export async function exampleScene(t: Test, startAgent: StartAgent): Promise<ExampleScene> {
  const provider = await startProvider('127.0.0.1', 0);
  t.teardown(() => provider.close());
  const replicas = await Promise.all([replica(t, startAgent, provider), replica(t, startAgent, provider)]);
  const caller = await startSidecar(
    t,
    {
      name: 'caller',
      outbound: {
        routes: [{ match: { authority: 'example' }, cluster: 'example' }],
        clusters: {
          example: {
            endpoints: replicas.map(({ sidecar }) => `127.0.0.1:${sidecar.inboundPort}`),
            // In turns, so that each replica has its share of tasks.
            balancer: 'round_robin',
          },
        },
      },
    },
    { until: 'live' },
  );
  const client = connectAgent(`127.0.0.1:${caller.outboundPort}`, 'example');
  t.teardown(() => client.close());
  return { provider, replicas, client };
}

async function replica(t: Test, startAgent: StartAgent, provider: Provider): Promise<Replica> {
  const [app, outbound, llm] = await Promise.all([freePort(), freePort(), freePort()]);
  const agent = startAgent({
    AGENT_LISTEN: `127.0.0.1:${app}`,
    AGENT_OUTBOUND: `127.0.0.1:${outbound}`,
    OPENAI_BASE_URL: `http://127.0.0.1:${llm}/v1`,
  });
  const sidecar = await startSidecar(t, {
    name: 'example',
    inbound: { app: `127.0.0.1:${app}` },
    outbound: { listen: `127.0.0.1:${outbound}` },
    llm: { listen: `127.0.0.1:${llm}`, upstreams: [{ name: 'offline', url: provider.baseUrl }] },
  }).catch((error: Error) => {
    throw new Error(`${error.message}\nThe agent's log:\n${agent.logs()}`, { cause: error });
  });
  return { agent, sidecar };
}

let tasks = 0;

function task(input: string): Partial<TaskRequest> {
  return { task_id: `task-${++tasks}`, correlation_id: 'conversation', input };
}

function options(): CallOptions {
  return { deadline: Date.now() + PATIENCE_MS };
}

/** @throws the call's ServiceError */
export function processTask(client: AgentClient, input: string): Promise<TaskResponse> {
  return new Promise((resolve, reject) => {
    client.ProcessTask(task(input), new Metadata(), options() as { deadline: number }, (error, answer) =>
      error === null ? resolve(answer!) : reject(error),
    );
  });
}

/** The chunks of a streamed task; the last one is final. */
export async function streamTask(client: AgentClient, input: string): Promise<string[]> {
  const chunks: string[] = [];
  let final = false;
  const call = client.StreamProcess(task(input), new Metadata(), options() as { deadline: number });
  for await (const { chunk, is_final } of call) {
    chunks.push(chunk);
    final = is_final;
  }
  if (!final) throw new Error('the stream ended without its final chunk');
  return chunks;
}

/** What a person reads of a failed call: its message, and the failure of the model that the sidecar adds. */
export function told(error: ServiceError): string {
  return `${error.details} ${error.metadata.get('outrigger-model-failure').join(' ')}`;
}
