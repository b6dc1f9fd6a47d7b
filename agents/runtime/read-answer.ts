/** Reads a model's answer with care: a provider may send anything, and what is malformed is the provider's failure. */
import type OpenAI from 'openai';
import { AgentError } from './errors.ts';

/** A call of a tool as the model asks for it. */
export interface WantedCall {
  id: string;
  type: 'function';
  function: { name: string; arguments: string };
}

/** What an agent needs of a whole answer. */
export interface ReadAnswer {
  readonly content: string;
  readonly wanted: WantedCall[];
  /** Whether the model came to its own end. */
  readonly whole: boolean;
  readonly tokens: number;
}

/** More calls than any provider sends in one answer: OpenAI takes 128 tools in a request. */
const mostCalls = 128;

/** The largest value of `tokens_used`, an int32. */
const mostTokens = 2 ** 31 - 1;

/** @throws AgentError UNAVAILABLE if the answer is malformed */
export function readAnswer(answer: OpenAI.ChatCompletion): ReadAnswer {
  if (!isObject(answer)) throw malformed('it is no object');
  const { choices, usage } = answer;
  if (!Array.isArray(choices)) throw malformed('choices is no list');
  const choice: OpenAI.ChatCompletion.Choice | null | undefined = choices[0];
  const { content, tool_calls: calls } = choice?.message ?? {};
  const asked: readonly unknown[] = calls ?? [];
  if (!Array.isArray(asked)) throw malformed('tool_calls is no list');
  if (asked.length > mostCalls) throw malformed(`it has more than ${mostCalls} tool_calls`);
  return {
    content: textOf(content, 'content'),
    wanted: asked.flatMap(readCall),
    whole: choice?.finish_reason === 'stop',
    tokens: tokensOf(usage?.total_tokens),
  };
}

/**
 * Passes the chunks on, and puts the calls together whose pieces they have. `wanted` has them after the last chunk.
 *
 * @throws AgentError UNAVAILABLE if a piece is malformed
 */
export async function* gathering(
  chunks: AsyncIterable<OpenAI.ChatCompletionChunk>,
  wanted: WantedCall[],
): AsyncGenerator<OpenAI.ChatCompletionChunk> {
  const calls = new Map<number, WantedCall>();
  for await (const chunk of chunks) {
    if (!isObject(chunk)) throw malformed('a chunk is no object');
    // Chunks with nothing but the usage may come without choices.
    if (!Array.isArray(chunk.choices ?? [])) throw malformed('choices is no list');
    const pieces: unknown = chunk.choices?.[0]?.delta?.tool_calls ?? [];
    if (!Array.isArray(pieces)) throw malformed('tool_calls is no list');
    for (const piece of pieces) addPiece(calls, piece);
    yield chunk;
  }
  const inOrder = [...calls].sort(([one], [other]) => one - other);
  for (const [, call] of inOrder) wanted.push(call);
}

function addPiece(calls: Map<number, WantedCall>, piece: unknown): void {
  if (!isObject(piece)) throw malformed('one of tool_calls is no object');
  const { index, id, function: asked } = piece;
  // Some providers leave the index out: an id then begins a call, and what has none goes on with the last one.
  const place = index ?? (id ? calls.size : calls.size - 1);
  if (typeof place !== 'number' || !Number.isInteger(place) || place < 0 || place >= mostCalls)
    throw malformed(`the index of one of tool_calls is no whole number from 0 to ${mostCalls - 1}`);
  const { name, arguments: json } = functionOf(asked ?? {});
  let call = calls.get(place);
  if (call === undefined) {
    call = { id: '', type: 'function', function: { name: '', arguments: '' } };
    calls.set(place, call);
  }
  call.id = textOf(id, 'the id of one of tool_calls') || call.id;
  call.function.name = name || call.function.name;
  call.function.arguments += json;
}

/** The call of a function; nothing of a call of another type. */
function readCall(call: unknown): WantedCall[] {
  if (!isObject(call)) throw malformed('one of tool_calls is no object');
  if (call['type'] !== 'function') return [];
  const id = textOf(call['id'], 'the id of one of tool_calls');
  return [{ id, type: 'function', function: functionOf(call['function']) }];
}

function functionOf(asked: unknown): WantedCall['function'] {
  if (!isObject(asked)) throw malformed('one of tool_calls has no function');
  return {
    name: textOf(asked['name'], 'the name of a function'),
    arguments: textOf(asked['arguments'], 'the arguments of a function'),
  };
}

function textOf(value: unknown, what: string): string {
  if (value === undefined || value === null) return '';
  if (typeof value !== 'string') throw malformed(`${what} is no text`);
  return value;
}

/** A count that makes no sense counts as none: the answer is there, and good. */
function tokensOf(total: unknown): number {
  return typeof total === 'number' && Number.isInteger(total) && total >= 0 && total <= mostTokens
    ? total
    : 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}

function malformed(what: string): AgentError {
  return new AgentError('UNAVAILABLE', `the model provider sent a malformed answer: ${what}`);
}
