/** The API's JSON Schemas: they validate requests and appear on the OpenAPI page. */

const longestIdChars = 256;
const mostMetadata = 64;
const longestTimeoutMs = 30 * 24 * 3600 * 1000;

/** @param agents the known types, the usual one first */
export function taskSchema(maxInputChars: number, agents: readonly string[]) {
  return {
    type: 'object',
    required: ['input'],
    additionalProperties: false,
    properties: {
      input: {
        type: 'string',
        minLength: 1,
        maxLength: maxInputChars,
        pattern: '\\S',
        description: 'The task for the agent.',
      },
      agent_type: {
        type: 'string',
        default: agents[0] ?? 'research',
        maxLength: longestIdChars,
        description: `Which agent: ${agents.join(', ')}.`,
      },
      correlation_id: {
        type: 'string',
        default: '',
        maxLength: longestIdChars,
        description: 'Connects several tasks; the gateway generates one if empty.',
      },
      metadata: {
        type: 'object',
        maxProperties: mostMetadata,
        additionalProperties: { type: 'string', maxLength: 4096 },
        description: 'The agent receives it unchanged.',
      },
      max_tokens: { type: 'integer', minimum: 0, maximum: 2 ** 31 - 1, description: '0: the agent decides.' },
      temperature: { type: 'number', minimum: 0, maximum: 2, description: '0: the agent decides.' },
      timeout_ms: {
        type: 'integer',
        minimum: 1,
        maximum: longestTimeoutMs,
        description:
          "The task ends unanswered after this time. Without it a submitted task has no deadline, and others have the gateway's.",
      },
      stream: {
        type: 'boolean',
        default: true,
        description:
          'Of a submitted task: whether its agent streams, so that its events have its chunks. `false` is for agents that ' +
          'answer as a whole only, and for `tokens_used`.',
      },
    },
  } as const;
}

/** A body that taskSchema accepts. */
export interface TaskBody {
  input: string;
  agent_type: string;
  correlation_id: string;
  metadata?: Record<string, string>;
  max_tokens?: number;
  temperature?: number;
  timeout_ms?: number;
  stream?: boolean;
}

export const modelFailureSchema = {
  type: 'object',
  description: "Why the agent's model did not answer, without keys.",
  properties: {
    status: { type: 'integer', description: "HTTP status of the provider's answer; 0 if it did not answer." },
    reason: { type: 'string', description: 'Why a sidecar answered instead of the provider.' },
    upstream: { type: 'string', description: "The provider's name in the sidecar's configuration." },
    path: { type: 'string', description: 'The path of the request to the provider.' },
    model: { type: 'string' },
    message: { type: 'string', description: "The provider's own message." },
    way: {
      type: 'array',
      items: { type: 'string' },
      description: 'The sidecars of the agents that the task went through, to the one whose model failed.',
    },
  },
} as const;

export const taskAnswerSchema = {
  type: 'object',
  description:
    'The answer. With `Accept: text/event-stream` instead a stream of `chunk` events {chunk, is_final}, ended ' +
    'by a `done` event {task_id, correlation_id, latency_ms} or an `error` event.',
  properties: {
    task_id: { type: 'string', format: 'uuid' },
    output: { type: 'string' },
    status: { type: 'string', enum: ['SUCCESS', 'PARTIAL', 'FAILED', 'TIMEOUT'] },
    latency_ms: { type: 'integer', description: "The agent's own measurement." },
    correlation_id: { type: 'string' },
    tokens_used: { type: 'integer' },
    model: modelFailureSchema,
  },
} as const;

/** What every error says. */
export const errorProperties = {
  code: { type: 'string', description: 'The name of a gRPC status.' },
  message: { type: 'string' },
  field: { type: 'string', description: 'The invalid field of the request.' },
  reason: { type: 'string', description: 'Why a sidecar answered instead of the agent.' },
  model: modelFailureSchema,
  task_id: { type: 'string' },
} as const;

export function errorSchema(description: string) {
  return {
    type: 'object',
    description,
    properties: {
      error: {
        type: 'object',
        properties: errorProperties,
      },
    },
  } as const;
}

export const healthSchema = {
  type: 'object',
  description: 'By agent type, such as `research`.',
  additionalProperties: {
    type: 'object',
    properties: {
      healthy: { type: 'boolean' },
      agent_name: { type: 'string', description: 'Empty while the agent does not answer.' },
      version: { type: 'string', description: 'Empty while the agent does not answer.' },
      checks: { type: 'object', additionalProperties: { type: 'string' } },
      error: { type: 'string', description: 'Why the gateway could not check the agent.' },
    },
  },
} as const;
