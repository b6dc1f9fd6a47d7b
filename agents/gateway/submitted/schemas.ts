/** The JSON Schemas of the API's asynchronous part. */
import { errorProperties, modelFailureSchema } from '../schemas.ts';

const states = ['queued', 'running', 'done', 'dead', 'cancelled'] as const;
export type State = (typeof states)[number];

/** The longest Idempotency-Key. */
const longestKeyChars = 256;

export const submitHeadersSchema = {
  type: 'object',
  properties: {
    prefer: {
      type: 'string',
      description:
        '`respond-async`: the answer is 202 with a `Location` at once, and the task outlives this request and the gateway. ' +
        'It needs a bus.',
    },
    'idempotency-key': {
      type: 'string',
      minLength: 1,
      maxLength: longestKeyChars,
      pattern: '^[\\x21-\\x7e]+$',
      description:
        'With `Prefer: respond-async`: a second request of this caller with the key is the same task; with another body it ' +
        'is refused.',
    },
  },
} as const;

const time = (description: string) => ({ type: 'string', format: 'date-time', description }) as const;

const taskProperties = {
  task_id: { type: 'string' },
  state: {
    type: 'string',
    enum: states,
    description:
      '`done`: an agent has answered, with success or an error. `dead`: no agent has answered; `cause` says why.',
  },
  agent_type: { type: 'string' },
  run: { type: 'integer', description: 'Counts the runs of the task, from 1.' },
  lost_runs: { type: 'integer', description: 'Runs that ended with their replica and without an answer.' },
  submitted_at: time('When the task was accepted.'),
  started_at: time('When its latest run began.'),
  ended_at: time('When it ended.'),
  deadline_at: time('When it ends unanswered at the latest, by its `timeout_ms`.'),
  runner: { type: 'string', description: 'The replica that runs the task.' },
  cause: { type: 'string', description: 'Why the task is dead or cancelled.' },
} as const;

const errorObject = {
  type: 'object',
  description: "Why there is no output, as in the API's other errors.",
  properties: errorProperties,
} as const;

export function submittedSchema(description: string) {
  return {
    type: 'object',
    description,
    required: ['task_id', 'state'],
    properties: {
      ...taskProperties,
      output: { type: 'string', description: 'When done without an error.' },
      status: { type: 'string', enum: ['SUCCESS', 'PARTIAL', 'FAILED', 'TIMEOUT'] },
      latency_ms: { type: 'integer' },
      tokens_used: { type: 'integer', description: 'Of a task with `stream: false`.' },
      model: modelFailureSchema,
      error: errorObject,
    },
  } as const;
}

export const taskParamsSchema = {
  type: 'object',
  properties: { id: { type: 'string', maxLength: 64, description: "The task's `task_id`." } },
  required: ['id'],
} as const;

export const eventsHeadersSchema = {
  type: 'object',
  properties: {
    'last-event-id': {
      type: 'string',
      description:
        'The id of the last event that the client has: the events after it follow. An id above the last one begins with `run`, ' +
        'and all chunks follow.',
    },
  },
} as const;

export const listQuerySchema = {
  type: 'object',
  additionalProperties: false,
  properties: {
    state: { type: 'string', enum: states },
    agent_type: { type: 'string', maxLength: 256 },
    limit: {
      type: 'string',
      pattern: '^([1-9]|[1-9][0-9]|1[0-9][0-9]|200)$',
      description: '1 to 200; by default 50.',
    },
    page: {
      type: 'string',
      maxLength: 1024,
      description: '`next_page` of the page before; another one is refused.',
    },
  },
} as const;

export const listSchema = {
  type: 'object',
  description: 'The tasks of this caller, latest first, without their outputs.',
  properties: {
    tasks: { type: 'array', items: { type: 'object', properties: taskProperties } },
    next_page: { type: 'string', description: 'Absent after the last page.' },
  },
} as const;
