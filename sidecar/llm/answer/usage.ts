/** Reads the tokens, the model and the end that an answer tells of itself. Pure. */

import { isObject } from '../../node/json.ts';
import type { AnswerError } from './answer-error.ts';

interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/** What is read of a plain answer or of one event of a stream. */
export interface AnswerFacts {
  /** Of its last event in a stream. */
  usage: Usage | undefined;
  model: string | undefined;
  id: string | undefined;
  finishReason: string | undefined;
  /** Of the prompt alone: a stream of Anthropic's tells it first, and the usage that it completes last. */
  promptTokens: number | undefined;
  /** That it reports, in place of an answer or after a part of one. */
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

/** Adds what `value` (a parsed answer or event) says to `facts`; gives the text that it adds to the answer. */
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
 * `prompt_tokens` and `completion_tokens`, or the names of the Responses and Messages APIs.
 *
 * @param prompt what has been told of the prompt before
 */
function usageOf(value: unknown, prompt?: number): Usage | undefined {
  if (!isObject(value)) return undefined;
  const input = promptTokens(value);
  const output = count(value['completion_tokens']) ?? count(value['output_tokens']);
  if (input === undefined && output === undefined) return undefined;
  return { inputTokens: input ?? prompt ?? 0, outputTokens: output ?? 0 };
}

/** Anthropic counts what it reads from its cache, or writes to it, beside the rest. */
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
