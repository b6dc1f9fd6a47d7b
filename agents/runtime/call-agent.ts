/** Calls to an agent from outside of a task: from scripts, and from an agent's tests. */
import { Metadata } from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { type AgentClient, connectAgent } from '../protocol/agent-client.ts';
import type { TaskRequest, TaskResponse } from '../protocol/messages.ts';

/** A task with its input; the rest is optional. It gets an id of its own if it has none. */
export type NewTask = Partial<TaskRequest> & Pick<TaskRequest, 'input'>;

export interface CallAgentOptions {
  /** The name of the agent, where the address is a sidecar's outbound listener. */
  authority?: string;
  /** The deadline, in milliseconds from now; a minute if omitted. */
  timeoutMs?: number;
  /** Metadata of the call, such as `outrigger-token-budget`. */
  metadata?: Readonly<Record<string, string>>;
}

const DEFAULT_TIMEOUT_MS = 60_000;

/**
 * Calls ProcessTask.
 *
 * @param address `host:port` or `unix:/path`: a sidecar's inbound listener (15006), or the agent itself
 * @throws grpc-js's ServiceError with `code`, `details` and the trailers in `metadata`
 */
export async function callAgent(
  address: string,
  task: NewTask,
  options: CallAgentOptions = {},
): Promise<TaskResponse> {
  const client = connectAgent(address, options.authority);
  try {
    return await new Promise((resolve, reject) => {
      client.ProcessTask(...callOf(task, options), (error, answer) =>
        error === null ? resolve(answer!) : reject(error),
      );
    });
  } finally {
    client.close();
  }
}

/** Calls StreamProcess. Ends with the final chunk; a caller that stops early ends the task. @throws as `callAgent` */
export async function* streamAgent(
  address: string,
  task: NewTask,
  options: CallAgentOptions = {},
): AsyncGenerator<string> {
  const client = connectAgent(address, options.authority);
  const call = client.StreamProcess(...callOf(task, options));
  try {
    for await (const { chunk } of call) if (chunk !== '') yield chunk;
  } finally {
    call.cancel();
    client.close();
  }
}

function callOf(
  task: NewTask,
  { timeoutMs = DEFAULT_TIMEOUT_MS, metadata = {} }: CallAgentOptions,
): Parameters<AgentClient['StreamProcess']> {
  const fields = new Metadata();
  for (const [name, value] of Object.entries(metadata)) fields.set(name, value);
  return [{ task_id: uuidv7(), ...task }, fields, { deadline: Date.now() + timeoutMs }];
}
