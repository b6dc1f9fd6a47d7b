// The wire forms of three providers' APIs, for faults: what is asked, what a whole answer is, and what its stream consists of.
import { chatAnswer, chatChunk, DONE, type ProviderRequest, WHOLE } from './provider.ts';

export interface ProviderForm {
  /** The `kind` of the upstream. */
  readonly kind: 'openai' | 'anthropic' | 'gemini';
  /** Where a request goes, below `http://HOST:PORT`. */
  path(model: string, stream: boolean): string;
  readonly headers: Readonly<Record<string, string>>;
  body(model: string, stream: boolean): object;
  isStream(request: ProviderRequest): boolean;
  readonly whole: object;
  /** A whole answer whose text is cut in two: filler of any length goes between. */
  readonly around: readonly [before: string, after: string];
  /** What comes before the first piece of a stream, and after the last one. */
  readonly begin: string;
  readonly end: string;
  chunk(text: string): string;
  /** An event that is no JSON. */
  readonly broken: string;
  error(status: number): object;
  textOf(answer: unknown): string;
  /** The text that an event adds; throws for an error. */
  textOfEvent(data: string): string;
}

const QUESTION = 'count to five';
const MESSAGES = [{ role: 'user', content: QUESTION }];

/** Throws the message of an error that stands in an event. */
function withoutError<T extends object>(value: T): T {
  const { error } = value as { error?: { message: string } };
  if (error !== undefined) throw new Error(error.message);
  return value;
}

export const OPENAI_FORM: ProviderForm = {
  kind: 'openai',
  path: () => '/v1/chat/completions',
  headers: { authorization: 'Bearer placeholder' },
  body: (model, stream) => ({ model, messages: MESSAGES, ...(stream ? { stream } : {}) }),
  isStream: ({ json }) => json?.['stream'] === true,
  whole: chatAnswer(),
  around: [
    '{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"',
    '"},"finish_reason":"stop"}]}',
  ],
  begin: '',
  end: chatChunk(undefined, 'stop') + DONE,
  chunk: (text) => chatChunk(text),
  broken: 'data: {"choices":[{"delta":\n\n',
  error: (status) => ({ error: { message: `scripted ${status}`, type: 'scripted', code: null } }),
  textOf: (answer) => (answer as { choices: { message: { content: string } }[] }).choices[0]!.message.content,
  textOfEvent(data) {
    if (data === '[DONE]') return '';
    const value = withoutError(JSON.parse(data) as { choices?: { delta: { content?: string } }[] });
    return value.choices?.[0]?.delta.content ?? '';
  },
};

const named = (type: string, more: object): string =>
  `event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`;
const MESSAGE = { id: 'msg_1', type: 'message', role: 'assistant', model: 'm', stop_sequence: null };

export const ANTHROPIC_FORM: ProviderForm = {
  kind: 'anthropic',
  path: () => '/v1/messages',
  headers: { 'x-api-key': 'placeholder', 'anthropic-version': '2023-06-01' },
  body: (model, stream) => ({ model, max_tokens: 100, messages: MESSAGES, ...(stream ? { stream } : {}) }),
  isStream: ({ json }) => json?.['stream'] === true,
  whole: {
    ...MESSAGE,
    content: [{ type: 'text', text: WHOLE }],
    stop_reason: 'end_turn',
    usage: { input_tokens: 7, output_tokens: 5 },
  },
  around: [
    '{"id":"msg_1","type":"message","content":[{"type":"text","text":"',
    '"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"output_tokens":5}}',
  ],
  begin:
    named('message_start', {
      message: { ...MESSAGE, content: [], stop_reason: null, usage: { input_tokens: 7, output_tokens: 1 } },
    }) + named('content_block_start', { index: 0, content_block: { type: 'text', text: '' } }),
  end:
    named('content_block_stop', { index: 0 }) +
    named('message_delta', { delta: { stop_reason: 'end_turn' }, usage: { output_tokens: 5 } }) +
    named('message_stop', {}),
  chunk: (text) => named('content_block_delta', { index: 0, delta: { type: 'text_delta', text } }),
  broken: 'event: content_block_delta\ndata: {"type":"content_block_delta","delta":\n\n',
  error: (status) => ({ type: 'error', error: { type: 'scripted_error', message: `scripted ${status}` } }),
  textOf: (answer) => (answer as { content: { text: string }[] }).content[0]!.text,
  textOfEvent(data) {
    const { delta } = withoutError(JSON.parse(data) as { delta?: { text?: string } });
    return delta?.text ?? '';
  },
};

const candidate = (text: string, finishReason?: string): object => ({
  candidates: [{ content: { role: 'model', parts: [{ text }] }, index: 0, finishReason }],
  usageMetadata: { promptTokenCount: 7, candidatesTokenCount: 5, totalTokenCount: 12 },
});
const event = (value: object): string => `data: ${JSON.stringify(value)}\r\n\r\n`;
type Candidates = { candidates?: { content: { parts: { text: string }[] } }[] };
const textIn = ({ candidates }: Candidates): string => candidates?.[0]?.content.parts[0]?.text ?? '';

export const GEMINI_FORM: ProviderForm = {
  kind: 'gemini',
  path: (model, stream) =>
    `/v1beta/models/${model}:${stream ? 'streamGenerateContent?alt=sse' : 'generateContent'}`,
  headers: { 'x-goog-api-key': 'placeholder' },
  body: () => ({ contents: [{ role: 'user', parts: [{ text: QUESTION }] }] }),
  isStream: ({ path }) => path.includes(':streamGenerateContent'),
  whole: candidate(WHOLE, 'STOP'),
  around: ['{"candidates":[{"content":{"parts":[{"text":"', '"}]},"index":0,"finishReason":"STOP"}]}'],
  begin: '',
  end: event(candidate('', 'STOP')),
  chunk: (text) => event(candidate(text)),
  broken: 'data: {"candidates":[{"content":\r\n\r\n',
  error: (status) => ({ error: { code: status, message: `scripted ${status}`, status: 'UNKNOWN' } }),
  textOf: (answer) => textIn(answer as Candidates),
  textOfEvent: (data) => textIn(withoutError(JSON.parse(data) as Candidates)),
};
