/** The asynchronous part of the REST API: tasks that outlive their request, on the bus of the gateway's sidecar. */
import { hash } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { TaskRequest } from '../../protocol/messages.ts';
import type { SubmittedTask, TaskState, TasksClient } from '../../protocol/tasks-client.ts';
import type { Work } from '../../tracing/work.ts';
import { ApiError } from '../api-error.ts';
import { errorSchema } from '../schemas.ts';
import { AnswerRoom } from './answer-room.ts';
import { SubmittedTasks } from './client.ts';
import { sendEvents } from './events.ts';
import {
  eventsHeadersSchema,
  listQuerySchema,
  listSchema,
  type State,
  submittedSchema,
  taskParamsSchema,
} from './schemas.ts';
import { endedViewOf, type OutputRoom, viewOf, wholeViewOf } from './view.ts';

export interface Submission {
  task: Partial<TaskRequest>;
  /** As the client gave it; the task's own is made up if this is empty. */
  correlationId: string;
  stream: boolean;
  /** Milliseconds until the task's deadline; 0 for none. */
  timeoutMs: number;
  work: Work | undefined;
}

/** Answers `Prefer: respond-async`: the task is stored, and its address is in Location. */
export async function submitTask(
  client: TasksClient,
  submission: Submission,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { stream, timeoutMs, work } = submission;
  const key = request.headers['idempotency-key'];
  const idempotencyKey = typeof key === 'string' ? key : '';
  const task = await new SubmittedTasks(client, request, work).submit({
    task: idempotencyKey === '' ? submission.task : repeatable(submission, idempotencyKey),
    method: stream ? 'STREAM_PROCESS' : 'PROCESS_TASK',
    timeout_ms: timeoutMs,
    idempotency_key: idempotencyKey,
  });
  return reply
    .code(202)
    .header('location', `/api/v1/tasks/${task.id}`)
    .header('preference-applied', 'respond-async')
    .send(endedViewOf(task));
}

/** The ids that the gateway gives are equal in each request with the key: the same body is the same task. */
function repeatable({ task, correlationId }: Submission, key: string): Partial<TaskRequest> {
  const digest = hash('sha256', `correlation id ${key}`, 'hex');
  return { ...task, task_id: '', correlation_id: correlationId || digest.slice(0, 32) };
}

export interface SubmittedTaskRoutes {
  client: TasksClient;
  /** Fires, with an ApiError as its reason, when open answers have to end. */
  stopping: AbortSignal;
}

const errors = {
  404: errorSchema('No such task of this caller.'),
  501: errorSchema('The gateway has no sidecar with a bus.'),
  503: errorSchema('The bus does not answer; see Retry-After.'),
} as const;

export function submittedTaskRoutes(app: FastifyInstance, { client, stopping }: SubmittedTaskRoutes): void {
  const outputs = new AnswerRoom();
  const roomOf = ({ ip }: FastifyRequest, reply: FastifyReply): OutputRoom => {
    const signal = AbortSignal.any([leaving(reply), stopping]);
    return { signal, take: (bytes) => outputs.take(ip, bytes, signal) };
  };
  type OfTask = { Params: { id: string } };
  const params = taskParamsSchema;
  const one = { 200: submittedSchema('The task.'), ...errors };

  app.get<OfTask>(
    '/api/v1/tasks/:id',
    { schema: { summary: 'A submitted task, with its output when it is done', params, response: one } },
    async (request, reply) => {
      const tasks = new SubmittedTasks(client, request);
      const { view, release } = await wholeViewOf(
        await tasks.get(idOf(request)),
        tasks,
        roomOf(request, reply),
      );
      reply.raw.once('close', release);
      if (reply.raw.destroyed) release();
      return view;
    },
  );

  app.delete<OfTask>(
    '/api/v1/tasks/:id',
    {
      schema: {
        summary: 'Cancel a submitted task',
        description: 'Its agent is told to stop. A task that has ended stays as it is.',
        params,
        response: one,
      },
    },
    async (request) => endedViewOf(await new SubmittedTasks(client, request).cancel(idOf(request))),
  );

  app.get<OfTask>(
    '/api/v1/tasks/:id/events',
    {
      schema: {
        summary: 'The events of a submitted task',
        description:
          'Server-sent events: `state` {task}, `chunk` {chunk, is_final, run} with its sequence as `id:`, `run` {run} after which ' +
          'a client drops the chunks so far, because the task runs again, and at the end `done` {task, with status or error}. ' +
          '`Last-Event-ID` resumes the stream, at any replica of the gateway; 204 says that the client has had all.',
        params,
        headers: eventsHeadersSchema,
        response: {
          200: {
            description: 'The events.',
            content: { 'text/event-stream': { schema: { type: 'string' } } },
          },
          204: { description: 'The client has had all events.', type: 'null' },
          ...errors,
        },
      },
    },
    (request, reply) => {
      return sendEvents(
        new SubmittedTasks(client, request),
        idOf(request),
        request,
        reply,
        roomOf(request, reply),
      );
    },
  );

  type Query = { state?: State; agent_type?: string; limit?: string; page?: string };
  app.get<{ Querystring: Query }>(
    '/api/v1/tasks',
    {
      schema: {
        summary: 'The submitted tasks of this caller',
        querystring: listQuerySchema,
        response: {
          200: listSchema,
          422: errorSchema('A parameter is wrong; `field` says which.'),
          ...errors,
        },
      },
    },
    async (request) => {
      const { state, agent_type = '', limit = '0', page = '' } = request.query;
      const { tasks, next_page_token } = await new SubmittedTasks(client, request).list({
        state: (state?.toUpperCase() ?? 'TASK_STATE_UNSPECIFIED') as TaskState,
        agent_type,
        page_size: Number(limit),
        page_token: page,
      });
      const views = tasks.map((task: SubmittedTask) => viewOf(task));
      return next_page_token === '' ? { tasks: views } : { tasks: views, next_page: next_page_token };
    },
  );
}

function idOf({ params }: { params: { id: string } }): string {
  if (/^[A-Za-z0-9_-]{43}$/.test(params.id)) return params.id;
  throw new ApiError(
    404,
    'NOT_FOUND',
    'no such task: the answer 202 has the id of a task in task_id and in Location',
  );
}

/** Fires when the client has left. */
function leaving(reply: FastifyReply): AbortSignal {
  const left = new AbortController();
  reply.raw.once('close', () => left.abort());
  return left.signal;
}
