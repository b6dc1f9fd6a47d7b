/** Calls from an agent to other agents. */
import type { Metadata } from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { type AgentClient, connectAgent } from '../protocol/agent-client.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from '../protocol/messages.ts';

/** A task for another agent. The ids, the trace and the deadline come from the calling agent's task. */
interface Subtask {
  input: string;
  /** Which agent, where several serve under one name; '' if omitted. */
  agent_type?: string;
  metadata?: Record<string, string>;
  max_tokens?: number;
  temperature?: number;
}

/** Calls to other agents, by name, on behalf of one task. They end when the task ends. */
export interface OtherAgents {
  /** @throws the call's ServiceError; if the agent does not catch it, the runtime translates it for the caller */
  process(agentName: string, subtask: Subtask): Promise<TaskResponse>;
  stream(agentName: string, subtask: Subtask): AsyncIterable<TaskChunk>;
}

/** One channel for each called agent, all through the sidecar, which routes by authority. */
export class AgentChannels {
  private readonly outbound: string;
  private readonly clients = new Map<string, AgentClient>();

  constructor(outbound: string) {
    this.outbound = outbound;
  }

  to(agentName: string): AgentClient {
    let client = this.clients.get(agentName);
    if (client === undefined) {
      client = connectAgent(this.outbound, agentName);
      this.clients.set(agentName, client);
    }
    return client;
  }

  close(): void {
    for (const client of this.clients.values()) client.close();
    this.clients.clear();
  }
}

export interface CallingTask {
  task: TaskRequest;
  signal: AbortSignal;
  /** Milliseconds since the epoch; Infinity without a deadline. */
  deadlineMs: number;
  forwarded: Metadata;
}

export function otherAgents(channels: AgentChannels, calling: CallingTask): OtherAgents {
  const { signal, deadlineMs, forwarded } = calling;
  const options = Number.isFinite(deadlineMs) ? { deadline: deadlineMs } : {};
  return {
    process: (agentName, subtask) =>
      new Promise((resolve, reject) => {
        signal.throwIfAborted();
        const cancel = () => call.cancel();
        const request = subtaskRequest(calling.task, subtask);
        const call = channels
          .to(agentName)
          .ProcessTask(request, forwarded.clone(), options, (error, answer) => {
            signal.removeEventListener('abort', cancel);
            if (error) reject(error);
            else resolve(answer!);
          });
        signal.addEventListener('abort', cancel, { once: true });
      }),
    async *stream(agentName, subtask) {
      signal.throwIfAborted();
      const request = subtaskRequest(calling.task, subtask);
      const call = channels.to(agentName).StreamProcess(request, forwarded.clone(), options);
      const cancel = () => call.cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        yield* call as AsyncIterable<TaskChunk>;
      } finally {
        signal.removeEventListener('abort', cancel);
        call.cancel();
      }
    },
  };
}

/**
 * A subtask has its own id, because a task id names one piece of work and a sidecar may replay answers by it; the
 * correlation id connects the two.
 */
function subtaskRequest(task: TaskRequest, subtask: Subtask): Partial<TaskRequest> {
  return {
    max_tokens: 0,
    temperature: 0,
    ...subtask,
    task_id: uuidv7(),
    correlation_id: task.correlation_id,
    metadata: { ...subtask.metadata, parent_task_id: task.task_id },
  };
}
