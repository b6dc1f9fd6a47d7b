/** Calls from an agent to other agents. */
import type { Metadata } from '@grpc/grpc-js';
import { v7 as uuidv7 } from 'uuid';
import { type AgentClient, type CallOptions, connectAgent } from '../protocol/agent-client.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from '../protocol/messages.ts';

/** A task for another agent. Trace and deadline come from the calling agent's task. */
interface Subtask {
  input: string;
  /**
   * Names the piece of work: a later run of the calling task that sends the same id with the same request gets the answer
   * that there is already, where the sidecar or the bus keeps it. By default each call has an id of its own.
   */
  task_id?: string;
  /** Which agent, where several serve under one name; '' if omitted. */
  agent_type?: string;
  metadata?: Record<string, string>;
  max_tokens?: number;
  temperature?: number;
}

/** What bounds one call more tightly than its task. */
interface SubtaskLimits {
  /** Ends the call when it fires. */
  signal?: AbortSignal;
  /** Milliseconds since the epoch; the task's own deadline holds, too. */
  deadlineMs?: number;
  /** The tokens that models may use for it (`outrigger-token-budget`); by default the sidecar grants a half of what is left. */
  tokenBudget?: number;
  /** The same for money, in USD (`outrigger-usd-budget`). */
  usdBudget?: number;
}

/** Calls to other agents, by name, on behalf of one task. They end when the task ends. */
export interface OtherAgents {
  /** @throws the call's ServiceError; if the agent does not catch it, the runtime translates it for the caller */
  process(agentName: string, subtask: Subtask, limits?: SubtaskLimits): Promise<TaskResponse>;
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
  const options = optionsUntil(deadlineMs);
  return {
    process: (agentName, subtask, limits = {}) =>
      new Promise((resolve, reject) => {
        const signals = limits.signal === undefined ? [signal] : [signal, limits.signal];
        for (const one of signals) one.throwIfAborted();
        const cancel = () => call.cancel();
        const request = subtaskRequest(calling.task, subtask);
        const metadata = forwarded.clone();
        if (limits.tokenBudget !== undefined)
          metadata.set('outrigger-token-budget', String(Math.floor(limits.tokenBudget)));
        if (limits.usdBudget !== undefined) metadata.set('outrigger-usd-budget', limits.usdBudget.toFixed(9));
        const until = optionsUntil(Math.min(deadlineMs, limits.deadlineMs ?? Number.POSITIVE_INFINITY));
        const call = channels.to(agentName).ProcessTask(request, metadata, until, (error, answer) => {
          for (const one of signals) one.removeEventListener('abort', cancel);
          if (error) reject(error);
          else resolve(answer!);
        });
        for (const one of signals) one.addEventListener('abort', cancel, { once: true });
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

function optionsUntil(deadlineMs: number): CallOptions {
  return Number.isFinite(deadlineMs) ? { deadline: deadlineMs } : {};
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
    task_id: subtask.task_id ?? uuidv7(),
    correlation_id: task.correlation_id,
    metadata: { ...subtask.metadata, parent_task_id: task.task_id },
  };
}
