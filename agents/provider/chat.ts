/** The answers of POST /v1/chat/completions. */
import type { Answer } from './answer.ts';
import type { TextRequest } from './requests.ts';
import type { StreamEvent } from './send.ts';
import { callingDeltas, callingMessage } from './tool-call.ts';

export interface AnswerIdentity {
  /** Unique for each answer; each endpoint adds its own prefix. */
  id: string;
  /** Seconds since the epoch. */
  created: number;
}

export function chatCompletion(request: TextRequest, given: Answer, identity: AnswerIdentity): object {
  const { id, created } = identity;
  const { toolCalls } = given;
  return {
    id: `chatcmpl-${id}`,
    object: 'chat.completion',
    created,
    model: request.model,
    choices: [
      {
        index: 0,
        message:
          toolCalls === undefined
            ? { role: 'assistant', content: given.tokens.join(''), refusal: null, annotations: [] }
            : callingMessage(toolCalls, id),
        logprobs: null,
        finish_reason: finishReasonOf(given),
      },
    ],
    usage: usageOf(given),
    system_fingerprint: null,
  };
}

/** The answer as a stream: the role, a chunk for each token, the finish reason, and the usage if requested. */
export function* chatCompletionEvents(
  request: TextRequest,
  given: Answer,
  identity: AnswerIdentity,
): Generator<StreamEvent> {
  const { id, created } = identity;
  const chunk = (choices: object[], usage: object | null): string =>
    JSON.stringify({
      id: `chatcmpl-${id}`,
      object: 'chat.completion.chunk',
      created,
      model: request.model,
      system_fingerprint: null,
      choices,
      ...(request.includeUsage ? { usage } : {}),
    });
  const choice = (delta: object, finishReason: string | null) => [
    { index: 0, delta, logprobs: null, finish_reason: finishReason },
  ];
  if (given.toolCalls === undefined) {
    yield { data: chunk(choice({ role: 'assistant', content: '', refusal: null }, null), null) };
    for (const token of given.tokens) {
      yield { data: chunk(choice({ content: token }, null), null), isToken: true };
    }
  } else {
    for (const delta of callingDeltas(given.toolCalls, id)) yield { data: chunk(choice(delta, null), null) };
  }
  yield { data: chunk(choice({}, finishReasonOf(given)), null) };
  if (request.includeUsage) yield { data: chunk([], usageOf(given)) };
  yield { data: '[DONE]' };
}

function finishReasonOf({ toolCalls, finishReason }: Answer): string {
  return toolCalls === undefined ? finishReason : 'tool_calls';
}

function usageOf({ tokens, inputTokens }: Answer) {
  return {
    prompt_tokens: inputTokens,
    completion_tokens: tokens.length,
    total_tokens: inputTokens + tokens.length,
    prompt_tokens_details: { cached_tokens: 0, audio_tokens: 0 },
    completion_tokens_details: { reasoning_tokens: 0, audio_tokens: 0 },
  };
}
