/** Calls an agent for a task of the REST API. */
import { Metadata, type ServiceError } from '@grpc/grpc-js';
import type { FastifyRequest } from 'fastify';
import type { TaskChunk, TaskRequest, TaskResponse } from '../protocol/messages.ts';
import { type ModelFailure, modelFailureIn } from '../protocol/model-failure.ts';
import { readOnDemand } from '../protocol/read-on-demand.ts';
import { traceHeaders } from '../tracing/tracing.ts';
import type { Work } from '../tracing/work.ts';
import { ApiError, fromServiceError } from './api-error.ts';
import type { RegisteredAgent } from './registry.ts';

/** A call of an agent for one task. */
export interface AgentCall {
  agent: RegisteredAgent;
  task: Partial<TaskRequest>;
  metadata: Metadata;
  timeoutMs: number;
  /** Fires when the client disconnects or the gateway stops; the signal cancels the call. */
  signal: AbortSignal;
}

/** An agent's answer; for a failed task, with the model's failure from the trailers. */
export interface TaskAnswer extends TaskResponse {
  model?: ModelFailure | undefined;
}

/** @throws ApiError */
export function processTask({ agent, task, metadata, timeoutMs, signal }: AgentCall): Promise<TaskAnswer> {
  return new Promise((resolve, reject) => {
    let answered: TaskResponse | undefined;
    const cancel = () => call.cancel();
    const options = { deadline: Date.now() + timeoutMs };
    const call = agent.client.ProcessTask(task, metadata, options, (error, answer) => {
      signal.removeEventListener('abort', cancel);
      if (error) reject(toApiError(error, agent.type, signal));
      else answered = answer!;
    });
    // The trailers follow the answer.
    call.on('status', ({ metadata: trailers }) => {
      if (answered === undefined) return;
      const failed = answered.status === 'FAILED' || answered.status === 'TIMEOUT';
      resolve(failed ? { ...answered, model: modelFailureIn(trailers) } : answered);
    });
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
  });
}

/** Yields the chunks as they arrive; a slow reader slows the agent down. @throws ApiError */
export async function* streamTask(given: AgentCall): AsyncGenerator<TaskChunk> {
  const { agent, task, metadata, timeoutMs, signal } = given;
  const deadline = Date.now() + timeoutMs;
  try {
    yield* readOnDemand(
      (interceptors) => agent.client.StreamProcess(task, metadata, { deadline, interceptors }),
      ({ chunk }) => chunk.length,
      signal,
    );
  } catch (error) {
    throw toApiError(error as ServiceError, agent.type, signal);
  }
}

function toApiError(error: ServiceError, agentType: string, signal: AbortSignal): ApiError {
  if (signal.aborted && signal.reason instanceof ApiError) return signal.reason;
  return fromServiceError(error, agentType);
}

const forwardedHeaders = [...traceHeaders, 'baggage', 'x-request-id'] as const;

/**
 * The metadata of the call: it continues the trace of the HTTP request, in the gateway's own span if there is one.
 * It omits values that gRPC cannot carry.
 */
export function metadataOf(request: FastifyRequest, work?: Work): Metadata {
  const metadata = new Metadata();
  for (const name of forwardedHeaders) {
    const value = request.headers[name];
    if (typeof value === 'string' && /^[\x20-\x7e]+$/.test(value)) metadata.set(name, value);
  }
  if (work === undefined) return metadata;
  // A header in another format would continue the trace at the wrong span.
  for (const name of traceHeaders) metadata.remove(name);
  for (const [name, value] of Object.entries(work.headers)) metadata.set(name, value);
  return metadata;
}
