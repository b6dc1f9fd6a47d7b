/** Reads the usage, the model and the finish reason of an answer. Pure. */

import { isObject } from '../../node/json.ts';
import type { AnswerError } from './answer-error.ts';

interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** The facts of a plain answer, or of the events of a stream. */
export interface AnswerFacts {
  /** In a stream, the usage of its last event that has one. */
  usage: Usage | undefined;
  model: string | undefined;
  id: string | undefined;
  finishReason: string | undefined;
  /** The tokens of the prompt: a stream of Anthropic's API sends them first, and the rest of the usage last. */
  promptTokens: number | undefined;
  /** The error that stands in place of the answer, or after a part of it. */
  error: AnswerError | undefined;
}

export function noFacts(): AnswerFacts {
  return {
    usage: undefined,
    model: undefined,
    id: undefined,
    finishReason: undefined,
    promptTokens: undefined,
    error: undefined,
  };
}

/** Adds what `value` (a parsed answer or event) says to `facts`; returns the text that it adds to the answer. */
export function readAnswer(value: unknown, facts: AnswerFacts): string | undefined {
  if (!isObject(value)) return undefined;
  const type = value['type'];
  const inner = type === 'message_start' ? value['message'] : value['response'];
  const response = isObject(inner) ? inner : value;
  if (type === 'message_start') facts.promptTokens = promptTokens(response['usage']);
  else facts.usage = usageOf(response['usage'], facts.promptTokens) ?? facts.usage;
  if (typeof response['model'] === 'string') facts.model = response['model'].slice(0, 256);
  if (typeof response['id'] === 'string') facts.id ??= response['id'].slice(0, 256);
  if (typeof response['status'] === 'string' && response !== value) facts.finishReason = response['status'];
  const delta = value['delta'];
  if (typeof delta === 'string') return delta;
  if (isObject(delta)) {
    if (typeof delta['stop_reason'] === 'string') facts.finishReason = delta['stop_reason'];
    for (const part of [delta['text'], delta['thinking'], delta['partial_json']])
      if (typeof part === 'string') return part;
  }
  if (typeof value['stop_reason'] === 'string') facts.finishReason = value['stop_reason'];
  return readChoices(value['choices'], facts);
}

function readChoices(choices: unknown, facts: AnswerFacts): string | undefined {
  if (!Array.isArray(choices)) return undefined;
  let text: string | undefined;
  for (const choice of choices) {
    if (!isObject(choice)) continue;
    if (typeof choice['finish_reason'] === 'string') facts.finishReason = choice['finish_reason'];
    const delta = isObject(choice['delta']) ? choice['delta'] : choice;
    text = joined(text, delta['content']);
    text = joined(text, delta['text']);
    text = joined(text, delta['refusal']);
    text = joined(text, delta['reasoning_content']);
    if (Array.isArray(delta['tool_calls'])) text = (text ?? '') + JSON.stringify(delta['tool_calls']);
  }
  return text;
}

function joined(text: string | undefined, part: unknown): string | undefined {
  if (typeof part !== 'string' || part === '') return text;
  return text === undefined ? part : text + part;
}

/**
 * Reads `prompt_tokens` and `completion_tokens`, or the names of the Responses and Messages APIs.
 *
 * @param prompt the tokens of the prompt, from an earlier event
 */
function usageOf(value: unknown, prompt?: number): Usage | undefined {
  if (!isObject(value)) return undefined;
  const input = promptTokens(value);
  const output = count(value['completion_tokens']) ?? count(value['output_tokens']);
  if (input === undefined && output === undefined) return undefined;
  return { inputTokens: input ?? prompt ?? 0, outputTokens: output ?? 0 };
}

/** Anthropic counts tokens that it reads from its cache, or writes to it, apart from the others. */
function promptTokens(usage: unknown): number | undefined {
  if (!isObject(usage)) return undefined;
  const input = count(usage['prompt_tokens']) ?? count(usage['input_tokens']);
  if (input === undefined) return undefined;
  return (
    input +
    (count(usage['cache_creation_input_tokens']) ?? 0) +
    (count(usage['cache_read_input_tokens']) ?? 0)
  );
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && value >= 0 && Number.isFinite(value) ? value : undefined;
}
