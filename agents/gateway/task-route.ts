/** POST /api/v1/tasks: sends a task to an agent, or submits it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { v7 as uuidv7 } from 'uuid';
import type { TasksClient } from '../protocol/tasks-client.ts';
import { beginWork, traceHeaders } from '../tracing/tracing.ts';
import type { Work } from '../tracing/work.ts';
import { wantsEventStream } from './accept.ts';
import { type AgentCall, metadataOf, processTask, streamTask } from './agent-call.ts';
import { ApiError } from './api-error.ts';
import { EventStream } from './event-stream.ts';
import type { Registry } from './registry.ts';
import { errorSchema, type TaskBody, taskAnswerSchema, taskSchema } from './schemas.ts';
import { prefersAsync } from './submitted/prefer.ts';
import { submitTask } from './submitted/routes.ts';
import { submitHeadersSchema, submittedSchema } from './submitted/schemas.ts';

export interface TaskRouteSettings {
  registry: Registry;
  /** Takes the tasks that outlive their request. */
  tasks: TasksClient;
  timeoutMs: number;
  maxInputChars: number;
  /** The type of a task that names none. */
  defaultAgent: string;
  /** Fires, with an ApiError as its reason, when running tasks have to end. */
  stopping: AbortSignal;
}

/**
 * POST /api/v1/tasks: one task for one agent, answered as a whole or, by the Accept header, as a stream. By the Prefer header
 * it is submitted, and answered later (`submitted/`).
 */
export function taskRoute(app: FastifyInstance, settings: TaskRouteSettings): void {
  const schema = {
    summary: 'Run a task',
    headers: submitHeadersSchema,
    body: taskSchema(settings.maxInputChars, knownTypes(settings)),
    response: {
      200: taskAnswerSchema,
      202: submittedSchema('`Prefer: respond-async`: the task is stored; `Location` is its address.'),
      404: errorSchema('Unknown agent type.'),
      422: errorSchema(
        'A field of the task is missing or wrong, or Idempotency-Key names another task; `field` says which.',
      ),
      429: errorSchema(
        'The model provider throttles the agent; see Retry-After. Without Retry-After, the provider demands payment.',
      ),
      501: errorSchema('`Prefer: respond-async` without a bus.'),
      502: errorSchema('The agent failed; if its model provider refused it, `model` has the reason.'),
      503: errorSchema('The agent is not available or its circuit is open; see Retry-After.'),
      504: errorSchema('The agent did not answer in time.'),
    },
  };
  app.post<{ Body: TaskBody }>('/api/v1/tasks', { schema }, async (request, reply) => {
    const call = callFor(request, reply, settings);
    if (prefersAsync(request.headers.prefer)) {
      const { stream = true, timeout_ms: timeoutMs = 0, correlation_id: correlationId } = request.body;
      const { task, work } = call;
      return submitTask(settings.tasks, { task, correlationId, stream, timeoutMs, work }, request, reply);
    }
    if (wantsEventStream(request.headers.accept)) {
      reply.hijack();
      await streamAnswer(call, request, reply);
      return reply;
    }
    const { task_id, output, status, latency_ms, tokens_used, model } = await processTask(call);
    const { correlation_id } = call.task;
    const ids = { task_id: task_id || request.id, correlation_id };
    return { ...ids, output, status, latency_ms, tokens_used, ...(model === undefined ? {} : { model }) };
  });
}

/** The usual type first. */
function knownTypes({ registry, defaultAgent }: TaskRouteSettings): string[] {
  return [defaultAgent, ...registry.all().flatMap(({ type }) => (type === defaultAgent ? [] : [type]))];
}

function callFor(
  request: FastifyRequest<{ Body: TaskBody }>,
  reply: FastifyReply,
  { registry, timeoutMs, stopping }: TaskRouteSettings,
): AgentCall & { work: Work | undefined } {
  const { agent_type, correlation_id, stream: _, timeout_ms = timeoutMs, ...rest } = request.body;
  const agent = registry.get(agent_type);
  if (agent === undefined) {
    const known = registry.all().map(({ type }) => type);
    const message = `unknown agent type "${agent_type.slice(0, 64)}"; the known ones are ${known.join(', ')}`;
    throw new ApiError(404, 'NOT_FOUND', message, { field: 'agent_type' });
  }
  // A request's id is the task's id: see app.ts.
  const ids = { task_id: request.id, correlation_id: correlation_id || uuidv7() };
  const work = beginWork('POST /api/v1/tasks', 'server', incomingTrace(request), {
    'http.request.method': 'POST',
    'http.route': '/api/v1/tasks',
    'outrigger.task.id': ids.task_id,
    'gen_ai.conversation.id': ids.correlation_id,
  });
  const left = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) left.abort();
    const { statusCode } = reply.raw;
    work?.end(
      { 'http.response.status_code': statusCode },
      statusCode >= 500 ? String(statusCode) : undefined,
    );
  });
  return {
    agent,
    task: { ...ids, agent_type, ...rest },
    metadata: metadataOf(request, work),
    timeoutMs: Math.min(timeoutMs, timeout_ms),
    work,
    signal: AbortSignal.any([left.signal, stopping]),
  };
}

function incomingTrace({ headers }: FastifyRequest): Record<string, string> {
  const incoming: Record<string, string> = {};
  for (const name of traceHeaders) {
    const value = headers[name];
    if (typeof value === 'string') incoming[name] = value;
  }
  return incoming;
}

async function streamAnswer(call: AgentCall, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const startedMs = performance.now();
  const { signal } = call;
  const stream = new EventStream(reply.raw);
  try {
    for await (const { chunk, is_final } of streamTask(call)) {
      await stream.send('chunk', { chunk, is_final }, signal);
    }
    const { task_id, correlation_id } = call.task;
    const latency_ms = Math.round(performance.now() - startedMs);
    await stream.send('done', { task_id, correlation_id, latency_ms }, signal);
  } catch (error) {
    if (reply.raw.destroyed) {
      request.log.info('the client disconnected before the end of the stream');
      return;
    }
    const told = error instanceof ApiError ? error : stoppedOrFailed(signal, error);
    request.log.info({ code: told.code, reason: told.reason, err: told.cause }, told.message);
    const headers: Record<string, string> =
      told.retryAfterS === undefined ? {} : { 'retry-after': String(told.retryAfterS) };
    const head = { status: told.httpStatus, headers };
    await stream.send('error', told.toBody(request.id), AbortSignal.timeout(1000), head).catch(() => {});
  } finally {
    stream.end();
  }
}

function stoppedOrFailed(signal: AbortSignal, cause: unknown): ApiError {
  if (signal.reason instanceof ApiError) return signal.reason;
  return new ApiError(500, 'INTERNAL', 'internal error of the gateway', { cause });
}
