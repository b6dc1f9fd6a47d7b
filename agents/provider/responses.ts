/** The answers of POST /v1/responses. */
import type { Answer } from './answer.ts';
import type { AnswerIdentity } from './chat.ts';
import type { TextRequest } from './requests.ts';
import type { StreamEvent } from './send.ts';
import { callingEvents, callingItem } from './tool-call.ts';

type State = 'in_progress' | 'completed' | 'incomplete';

export function response(request: TextRequest, given: Answer, identity: AnswerIdentity): object {
  const state = endState(given);
  return responseObject(request, identity, state, [outputOf(given, identity, state)], given);
}

/** The answer as a stream of typed, numbered events. Its last event is its only end marker. */
export function* responseEvents(
  request: TextRequest,
  given: Answer,
  identity: AnswerIdentity,
): Generator<StreamEvent> {
  let sequenceNumber = 0;
  const event = (type: string, fields: object, isToken = false): StreamEvent => ({
    event: type,
    data: JSON.stringify({ type, sequence_number: sequenceNumber++, ...fields }),
    isToken,
  });
  const text = given.tokens.join('');
  const state = endState(given);
  const place = { item_id: `msg_${identity.id}`, output_index: 0, content_index: 0 };
  const begun = responseObject(request, identity, 'in_progress', []);

  yield event('response.created', { response: begun });
  yield event('response.in_progress', { response: begun });
  if (given.toolCalls !== undefined) {
    yield* callingEvents(given.toolCalls[0]!, identity.id, event);
    yield event('response.completed', { response: response(request, given, identity) });
    return;
  }
  yield event('response.output_item.added', { output_index: 0, item: message(identity, 'in_progress') });
  yield event('response.content_part.added', { ...place, part: textPart('') });
  for (const token of given.tokens) {
    yield event('response.output_text.delta', { ...place, delta: token, logprobs: [] }, true);
  }
  yield event('response.output_text.done', { ...place, text, logprobs: [] });
  yield event('response.content_part.done', { ...place, part: textPart(text) });
  const item = message(identity, state, text);
  yield event('response.output_item.done', { output_index: 0, item });
  yield event(`response.${state}`, { response: responseObject(request, identity, state, [item], given) });
}

function outputOf(given: Answer, identity: AnswerIdentity, state: State): object {
  if (given.toolCalls !== undefined) return callingItem(given.toolCalls[0]!, identity.id, state);
  return message(identity, state, given.tokens.join(''));
}

function endState({ finishReason }: Answer): State {
  return finishReason === 'length' ? 'incomplete' : 'completed';
}

function responseObject(
  request: TextRequest,
  { id, created }: AnswerIdentity,
  status: State,
  output: object[],
  given?: Answer,
): object {
  return {
    id: `resp_${id}`,
    object: 'response',
    created_at: created,
    status,
    background: false,
    error: null,
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    instructions: request.prompt.instructions || null,
    max_output_tokens: request.maxTokens || null,
    metadata: {},
    model: request.model,
    output,
    parallel_tool_calls: true,
    previous_response_id: null,
    reasoning: { effort: null, summary: null },
    store: false,
    temperature: request.temperature ?? 1,
    text: { format: { type: 'text' } },
    tool_choice: 'auto',
    tools: [],
    top_p: 1,
    truncation: 'disabled',
    usage: given === undefined ? null : usageOf(given),
    user: request.user ?? null,
  };
}

function message({ id }: AnswerIdentity, status: State, text?: string): object {
  const content = text === undefined ? [] : [textPart(text)];
  return { id: `msg_${id}`, type: 'message', status, role: 'assistant', content };
}

function textPart(text: string): object {
  return { type: 'output_text', text, annotations: [], logprobs: [] };
}

function usageOf({ tokens, inputTokens }: Answer) {
  return {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: tokens.length,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + tokens.length,
  };
}
