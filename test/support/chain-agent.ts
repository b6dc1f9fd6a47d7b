// Agents that call each other through sidecars of their own: plain grpc-js handlers, which hand on what a test says.
import { Metadata, Server, ServerCredentials, type ServiceError, status } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { type DataPlane, policiesOff, startDataPlane } from '../../scripts/harness/data-plane.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { RawClient, type UnaryOutcome } from '../../scripts/harness/raw-grpc.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';

const identity = (bytes: Buffer): Buffer => bytes;

interface SeenTask {
  readonly request: Buffer;
  readonly metadata: Metadata;
  /** In milliseconds from its beginning; Infinity without one. */
  readonly timeLeftMs: number;
  /** The agent has been told that nobody waits. */
  readonly cancelled: () => boolean;
  /** Answers; only needed by tests whose agent's `onTask` never ends. */
  readonly answer: (message: Buffer) => void;
}

/** What an agent does with a task. What it throws becomes the status of the answer, and nothing else of it. */
export type OnTask = (task: SeenTask, agent: ChainAgent) => Promise<Buffer>;

export interface ChainAgent {
  readonly name: string;
  readonly inboundPort: number;
  readonly plane: DataPlane;
  readonly tasks: readonly SeenTask[];
  onTask: OnTask;
  /** Calls another agent through its own sidecar, as a plain client does: without deadline, trace or retries. */
  call(to: string, request: Buffer, metadata?: Metadata): Promise<UnaryOutcome>;
}

export interface ChainOptions {
  /** Names of the agents; each can call all, itself included. */
  readonly names: readonly string[];
  /** Whether the sidecars are told the names. */
  readonly named?: boolean;
  readonly retry?: Record<string, unknown>;
  readonly inbound?: Record<string, unknown>;
  /** Addresses, by name, of what has no sidecar. */
  readonly others?: Readonly<Record<string, string>>;
}

/** Throw it in `onTask`. */
export class AgentError extends Error {
  readonly code: status;

  constructor(code: status) {
    super('the agent has its own words for it');
    this.code = code;
  }
}

export async function startChain(
  t: Pick<Test, 'teardown'>,
  { names, named = true, retry = {}, inbound = {}, others = {} }: ChainOptions,
): Promise<Record<string, ChainAgent>> {
  const ports = new Map<string, number>();
  for (const name of names) ports.set(name, await freePort());
  const clusters: Record<string, unknown> = {};
  const policies = { ...policiesOff, retry };
  for (const [name, port] of ports) clusters[name] = { endpoints: [`127.0.0.1:${port}`], ...policies };
  for (const [name, address] of Object.entries(others))
    clusters[name] = { endpoints: [address], ...policies };
  const agents: Record<string, ChainAgent> = {};
  for (const [name, inboundPort] of ports) {
    const tasks: SeenTask[] = [];
    const server = new Server();
    const definition = { requestStream: false, responseStream: false } as const;
    const codecs = {
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    };
    server.addService(
      { processTask: { path: PROCESS_TASK_PATH, ...definition, ...codecs } },
      {
        processTask(
          call: { request: Buffer; metadata: Metadata; cancelled: boolean; getDeadline(): Date | number },
          callback: (error: Partial<ServiceError> | null, message?: Buffer) => void,
        ) {
          const task: SeenTask = {
            request: call.request,
            metadata: call.metadata,
            timeLeftMs: Number(call.getDeadline()) - Date.now(),
            cancelled: () => call.cancelled,
            answer: (message) => callback(null, message),
          };
          tasks.push(task);
          agent.onTask(task, agent).then(
            (message) => callback(null, message),
            (error) => callback({ code: error instanceof AgentError ? error.code : status.UNKNOWN }),
          );
        },
      },
    );
    const appPort = await new Promise<number>((resolve, reject) =>
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      ),
    );
    t.teardown(() => server.forceShutdown());
    const plane = await startDataPlane(t, {
      ...(named ? { name } : {}),
      inbound: { listen: `127.0.0.1:${inboundPort}`, app: `127.0.0.1:${appPort}`, ...inbound },
      outbound: { clusters },
    });
    const clients = new Map<string, RawClient>();
    const agent: ChainAgent = {
      name,
      inboundPort,
      plane,
      tasks,
      onTask: async () => Buffer.from(name),
      call(to, request, metadata = new Metadata()) {
        let client = clients.get(to);
        if (client === undefined) {
          const options = { 'grpc.default_authority': to, 'grpc.enable_retries': 0 };
          client = new RawClient(t, plane.outboundPort, options);
          clients.set(to, client);
        }
        return client.unary(request, { path: PROCESS_TASK_PATH, metadata });
      },
    };
    agents[name] = agent;
  }
  return agents;
}
