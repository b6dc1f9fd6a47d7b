/** Parses requests of the OpenAI API. */
import { type Prompt, promptOf } from './answer.ts';
import type { Round } from './planner.ts';

/** A request that the provider refuses, with an error in the format of the OpenAI API. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  readonly status: number;
  readonly param: string | null;

  constructor(status: number, message: string, param: string | null = null) {
    super(message);
    this.status = status;
    this.param = param;
  }
}

/** The common form of both kinds of text request. */
export interface TextRequest {
  model: string;
  prompt: Prompt;
  /** 0 if absent. */
  maxTokens: number;
  temperature: number | null;
  stream: boolean;
  includeUsage: boolean;
  user: string | undefined;
  /** The names of the tools that the model may call, and what the last call after the question returned. */
  tools: readonly string[];
  toolResult: string | undefined;
  /** The calls that the model has made for this question, answer by answer. */
  rounds: readonly Round[];
}

type Json = Record<string, unknown>;

/** POST /v1/chat/completions. @throws RequestError */
export function readChatRequest(body: Json): TextRequest {
  const { messages } = body;
  if (!Array.isArray(messages) || messages.length === 0) {
    throw new RequestError(400, "'messages' must be a list of at least one message", 'messages');
  }
  return {
    ...common(body),
    prompt: promptOfTurns(messages, 'messages', ''),
    toolResult: lastToolResult(messages),
    rounds: roundsOf(messages),
    maxTokens: limit(body, 'max_completion_tokens') || limit(body, 'max_tokens'),
    includeUsage: (body['stream_options'] as Json | undefined)?.['include_usage'] === true,
  };
}

/** POST /v1/responses. @throws RequestError */
export function readResponsesRequest(body: Json): TextRequest {
  const { input } = body;
  const instructions = typeof body['instructions'] === 'string' ? body['instructions'] : '';
  const turns = typeof input === 'string' ? [{ role: 'user', content: input }] : input;
  if (!Array.isArray(turns) || turns.length === 0) {
    throw new RequestError(400, "'input' must be a text or a list of items", 'input');
  }
  return {
    ...common(body),
    prompt: promptOfTurns(turns, 'input', instructions),
    toolResult: undefined,
    rounds: [],
    maxTokens: limit(body, 'max_output_tokens'),
    includeUsage: true,
  };
}

function common(body: Json) {
  const { model, temperature = null, stream = false, user } = body;
  if (typeof model !== 'string' || model === '') throw new RequestError(400, "'model' is missing", 'model');
  if (temperature !== null && !(typeof temperature === 'number' && temperature >= 0 && temperature <= 2)) {
    throw new RequestError(400, "'temperature' must be a number from 0 to 2", 'temperature');
  }
  return {
    model,
    temperature: temperature as number | null,
    stream: stream === true,
    user: typeof user === 'string' ? user : undefined,
    tools: toolNames(body['tools']),
  };
}

function toolNames(tools: unknown): string[] {
  if (!Array.isArray(tools)) return [];
  return tools.flatMap((tool: Json | null) => {
    const name = (tool?.['function'] as Json | undefined)?.['name'] ?? tool?.['name'];
    return typeof name === 'string' ? [name] : [];
  });
}

function lastToolResult(turns: unknown[]): string | undefined {
  const last = (turns.at(-1) ?? {}) as Json;
  return last['role'] === 'tool' ? textOf(last['content']) : undefined;
}

/** What the model has called since the last question, with the results. */
function roundsOf(turns: unknown[]): Round[] {
  const since = turns.slice(1 + turns.findLastIndex((turn) => (turn as Json | null)?.['role'] === 'user'));
  const results = new Map<unknown, string>();
  for (const turn of since) {
    const { role, tool_call_id: id, content } = (turn ?? {}) as Json;
    if (role === 'tool') results.set(id, textOf(content));
  }
  return since.flatMap((turn) => {
    const calls = (turn as Json | null)?.['tool_calls'];
    if (!Array.isArray(calls)) return [];
    return [
      calls.map((call: { id?: unknown; function?: { name?: unknown; arguments?: unknown } } | null) => ({
        name: String(call?.function?.name ?? ''),
        arguments: String(call?.function?.arguments ?? '{}'),
        result: results.get(call?.id) ?? '',
      })),
    ];
  });
}

/** The instructions are all system and developer turns; the question is the last user turn. */
function promptOfTurns(turns: unknown[], param: string, given: string): Prompt {
  const instructions = given === '' ? [] : [given];
  const others: string[] = [];
  let question: string | undefined;
  for (const turn of turns) {
    const { role, content } = (turn ?? {}) as Json;
    const text = textOf(content);
    if (role === 'system' || role === 'developer') instructions.push(text);
    else if (role === 'user') {
      if (question !== undefined) others.push(question);
      question = text;
    } else others.push(text);
  }
  if (question === undefined) throw new RequestError(400, `'${param}' has no user message`, param);
  return promptOf(instructions.join('\n'), question, others.join('\n'));
}

/** Content is a text or a list of parts; only text parts count. */
function textOf(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content)) return '';
  const texts = content.map((part: unknown) => (part as Json | null)?.['text']);
  return texts.filter((text) => typeof text === 'string').join('\n');
}

function limit(body: Json, name: string): number {
  const value = body[name];
  if (value === undefined || value === null) return 0;
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return value;
  throw new RequestError(400, `'${name}' must be a whole number above 0`, name);
}
