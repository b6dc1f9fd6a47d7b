/** Reads the answers of OpenAI's API: chat and legacy completions, and Responses. Pure. */
import { isObject, type JsonObject } from '../../node/json.ts';
import { type AnswerFacts, count, joined, noteNames, noteTier, type Usage } from './answer-facts.ts';

/** Reads an answer, or an event, of chat or legacy completions. */
export function readChoices(value: JsonObject, facts: AnswerFacts): string | undefined {
  facts.usage = usageOf(value['usage']) ?? facts.usage;
  noteNames(facts, value['model'], value['id']);
  noteTier(facts, value['service_tier']);
  const choices = value['choices'];
  if (!Array.isArray(choices)) return undefined;
  let text: string | undefined;
  for (const choice of choices) {
    if (!isObject(choice)) continue;
    if (typeof choice['finish_reason'] === 'string') facts.finishReason = choice['finish_reason'];
    // A plain answer has a message where a stream has parts of one.
    const { delta: part, message } = choice;
    const delta = isObject(part) ? part : isObject(message) ? message : choice;
    text = joined(text, delta['content']);
    text = joined(text, delta['text']);
    text = joined(text, delta['refusal']);
    text = joined(text, delta['reasoning_content']);
    if (Array.isArray(delta['tool_calls'])) text = (text ?? '') + JSON.stringify(delta['tool_calls']);
  }
  return text;
}

/** Reads an answer, or an event, of the Responses API. */
export function readResponse(value: JsonObject, facts: AnswerFacts): string | undefined {
  const inner = value['response'];
  const response = isObject(inner) ? inner : value;
  facts.usage = usageOf(response['usage']) ?? facts.usage;
  noteNames(facts, response['model'], response['id']);
  noteTier(facts, response['service_tier']);
  if (typeof response['status'] === 'string' && response !== value) facts.finishReason = response['status'];
  const delta = value['delta'];
  if (typeof delta === 'string') return delta;
  // The events of a stream repeat the output at its end.
  return response === value ? outputOf(value['output']) : undefined;
}

/** The text of a plain response: its messages, and the arguments of its calls. */
function outputOf(output: unknown): string | undefined {
  if (!Array.isArray(output)) return undefined;
  let text: string | undefined;
  for (const item of output) {
    if (!isObject(item)) continue;
    text = joined(text, item['arguments']);
    const { content } = item;
    if (!Array.isArray(content)) continue;
    for (const part of content) if (isObject(part)) text = joined(text, part['text']);
  }
  return text;
}

/** Reads the usage of an answer without a text: embeddings, pictures. */
export function readUsage(value: JsonObject, facts: AnswerFacts): undefined {
  facts.usage = usageOf(value['usage']) ?? facts.usage;
  noteNames(facts, value['model'], value['id']);
}

/**
 * Reads `prompt_tokens` and `completion_tokens`, or the names of the Responses API. The input includes what came from the
 * cache, the output what was reasoning.
 */
function usageOf(value: unknown): Usage | undefined {
  if (!isObject(value)) return undefined;
  const input = count(value['prompt_tokens']) ?? count(value['input_tokens']);
  const output = count(value['completion_tokens']) ?? count(value['output_tokens']);
  if (input === undefined && output === undefined) return undefined;
  const inputs = value['prompt_tokens_details'] ?? value['input_tokens_details'];
  const outputs = value['completion_tokens_details'] ?? value['output_tokens_details'];
  return {
    inputTokens: input ?? 0,
    cacheReadTokens: (isObject(inputs) ? count(inputs['cached_tokens']) : undefined) ?? 0,
    cacheWrite5mTokens: 0,
    cacheWrite1hTokens: 0,
    outputTokens: output ?? 0,
    reasoningTokens: (isObject(outputs) ? count(outputs['reasoning_tokens']) : undefined) ?? 0,
  };
}
