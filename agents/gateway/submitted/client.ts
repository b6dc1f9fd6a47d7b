/** Calls `outrigger.v1.Tasks` of the gateway's sidecar for the asynchronous part of the REST API. */
import { type Metadata, type ServiceError, status } from '@grpc/grpc-js';
import type { FastifyRequest } from 'fastify';
import { readOnDemand } from '../../protocol/read-on-demand.ts';
import type {
  ListRequest,
  SubmitRequest,
  SubmittedTask,
  TaskEvent,
  TaskList,
  TasksClient,
} from '../../protocol/tasks-client.ts';
import type { Work } from '../../tracing/work.ts';
import { metadataOf } from '../agent-call.ts';
import { ApiError } from '../api-error.ts';

/** How long the sidecar may take to answer, except for a watch. */
const limitMs = 20_000;
const retryAfterS = 1;
const longestMessageChars = 500;
/**
 * What tells the sidecar callers apart (`inbound.tasks.scope_headers`). The sidecar stores a digest of them. Synchronous
 * tasks go without: an agent is not told who called.
 */
const scopeHeaders = ['authorization', 'cookie', 'x-api-key'] as const;

type Method = 'Submit' | 'Get' | 'Cancel' | 'List';

/** The tasks of one REST caller. Each method throws ApiError. */
export class SubmittedTasks {
  private readonly client: TasksClient;
  private readonly metadata: Metadata;

  constructor(client: TasksClient, request: FastifyRequest, work?: Work) {
    this.client = client;
    this.metadata = metadataOf(request, work);
    for (const name of scopeHeaders) {
      const value = request.headers[name];
      if (typeof value === 'string' && /^[\x20-\x7e]+$/.test(value)) this.metadata.set(name, value);
    }
  }

  submit(request: SubmitRequest): Promise<SubmittedTask> {
    return this.ask('Submit', { ...request, without_large_answer: true });
  }

  /** Its end lacks a large answer: `end_bytes` says what room that takes. */
  get(id: string): Promise<SubmittedTask> {
    return this.ask('Get', { id, without_large_answer: true });
  }

  whole(id: string): Promise<SubmittedTask> {
    return this.ask('Get', { id });
  }

  cancel(id: string): Promise<SubmittedTask> {
    return this.ask('Cancel', { id, without_large_answer: true });
  }

  list(request: ListRequest): Promise<TaskList> {
    return this.ask('List', request, 'page');
  }

  /** Yields the events from a chunk on, the last one without a large answer; a slow reader slows the log down. */
  async *watch(id: string, fromSequence: number, signal: AbortSignal): AsyncGenerator<TaskEvent> {
    const request = { id, from_sequence: fromSequence, without_large_answer: true };
    try {
      yield* readOnDemand(
        (interceptors) => this.client.Watch(request, this.metadata, { interceptors }),
        ({ chunk }) => chunk?.chunk?.chunk.length ?? 0,
        signal,
      );
    } catch (error) {
      throw signal.reason instanceof ApiError ? signal.reason : toApiError(error as ServiceError);
    }
  }

  /** @param field what is wrong with the client's request when the sidecar says that something is */
  private ask<Request, Answer>(method: Method, request: Request, field?: string): Promise<Answer> {
    const options = { deadline: Date.now() + limitMs };
    return new Promise((resolve, reject) => {
      const answer = (error: ServiceError | null, value?: unknown) =>
        error === null ? resolve(value as Answer) : reject(toApiError(error, field));
      this.client[method](request as never, this.metadata, options, answer);
    });
  }
}

/**
 * Translates a refusal of the service to HTTP:
 *
 *   UNIMPLEMENTED       501: no sidecar with a bus
 *   INVALID_ARGUMENT    422
 *   ALREADY_EXISTS      422: Idempotency-Key names another request
 *   NOT_FOUND           404
 *   RESOURCE_EXHAUSTED  413 for a task that is too large, else 503 with Retry-After: too many tasks wait
 *   UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED  503 with Retry-After
 *   anything else       502
 */
function toApiError(error: ServiceError, field?: string): ApiError {
  const code = status[error.code] ?? 'UNKNOWN';
  const said = error.details.slice(0, longestMessageChars);
  const given = error.metadata?.get('outrigger-reason')[0];
  const reason = typeof given === 'string' && given !== '' ? given : undefined;
  const options = { reason, cause: error };
  switch (error.code) {
    case status.UNIMPLEMENTED:
      return new ApiError(501, code, noBus, { cause: error });
    case status.INVALID_ARGUMENT:
      return new ApiError(422, code, said, { ...options, field });
    case status.ALREADY_EXISTS:
      return new ApiError(422, code, otherRequest, { field: 'Idempotency-Key', cause: error });
    case status.NOT_FOUND:
      return new ApiError(404, code, said, options);
    case status.RESOURCE_EXHAUSTED:
      if (reason === 'message_too_large') return new ApiError(413, code, 'the task is too large', options);
      return new ApiError(503, code, said, { ...options, retryAfterS });
    case status.UNAVAILABLE:
    case status.DEADLINE_EXCEEDED:
    case status.CANCELLED:
      return new ApiError(503, 'UNAVAILABLE', unavailable(reason), { ...options, retryAfterS });
    default:
      return new ApiError(502, code, 'the sidecar could not answer for the task', options);
  }
}

const noBus =
  'tasks that outlive their request need a bus: set bus.url for the sidecar of the gateway, and GATEWAY_TASKS_ADDR to its ' +
  'outbound address; or send the task without "Prefer: respond-async"';
const otherRequest = 'Idempotency-Key names another task; use a new key for a new task';

function unavailable(reason: string | undefined): string {
  return reason === 'outcome_unknown'
    ? 'the bus has not confirmed the task, and may have it; send it again with the same Idempotency-Key'
    : 'the bus of the tasks does not answer; try again later';
}
