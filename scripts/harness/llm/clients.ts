// Two clients of a model, the unmodified openai package and plain HTTP, and the outcome that each observes.
import { request as httpRequest } from 'node:http';
import OpenAI from 'openai';

export interface Seen {
  /** `answer`: an end without an error. `error`: a visible error. `hang`: neither within the limit. */
  readonly kind: 'answer' | 'error' | 'hang';
  readonly text: string;
  readonly status: number | undefined;
  readonly message: string;
  readonly durationMs: number;
}

interface Ask {
  readonly baseUrl: string;
  readonly model: string;
  readonly stream: boolean;
  /** A longer time is a hang. */
  readonly limitMs: number;
  /** The openai client's own timeout. The client sends the provider only `requestTimeoutMs`, the timeout of a request. */
  readonly timeoutMs?: number;
  readonly requestTimeoutMs?: number;
  readonly maxRetries?: number;
  readonly apiKey?: string;
}

export type Client = (ask: Ask) => Promise<Seen>;

const MESSAGES = [{ role: 'user' as const, content: 'count to five' }];

export const CLIENTS: Readonly<Record<'openai' | 'http', Client>> = {
  openai: (ask) => watched(ask, askOpenAi),
  http: (ask) => watched(ask, askHttp),
};

interface Partial {
  text: string;
  status: number | undefined;
}

async function watched(
  ask: Ask,
  run: (ask: Ask, partial: Partial, signal: AbortSignal) => Promise<void>,
): Promise<Seen> {
  const startedMs = performance.now();
  const partial: Partial = { text: '', status: undefined };
  const aborter = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'hang'>((resolve) => {
    timer = setTimeout(() => resolve('hang'), ask.limitMs);
  });
  let kind: Seen['kind'];
  let message = '';
  try {
    kind = (await Promise.race([
      run(ask, partial, aborter.signal).then(() => 'answer' as const),
      late,
    ])) as Seen['kind'];
  } catch (error) {
    kind = 'error';
    const { status } = error as { status?: number };
    partial.status = status ?? partial.status;
    message = error instanceof Error ? error.message : String(error);
  }
  clearTimeout(timer);
  aborter.abort();
  return { kind, ...partial, message, durationMs: performance.now() - startedMs };
}

async function askOpenAi(ask: Ask, partial: Partial, signal: AbortSignal): Promise<void> {
  const client = new OpenAI({
    baseURL: ask.baseUrl,
    apiKey: ask.apiKey ?? 'placeholder',
    logLevel: 'off',
    ...(ask.timeoutMs === undefined ? {} : { timeout: ask.timeoutMs }),
    ...(ask.maxRetries === undefined ? {} : { maxRetries: ask.maxRetries }),
  });
  const { requestTimeoutMs: timeout } = ask;
  const options = timeout === undefined ? { signal } : { signal, timeout };
  if (!ask.stream) {
    const answer = await client.chat.completions.create({ model: ask.model, messages: MESSAGES }, options);
    partial.text = answer.choices[0]?.message.content ?? '';
    return;
  }
  const chunks = await client.chat.completions.create(
    { model: ask.model, messages: MESSAGES, stream: true },
    options,
  );
  for await (const chunk of chunks) partial.text += chunk.choices[0]?.delta.content ?? '';
}

/** A client without a library: any end of the bytes is an end, unless an event reports an error. */
function askHttp(ask: Ask, partial: Partial, signal: AbortSignal): Promise<void> {
  const body = JSON.stringify({
    model: ask.model,
    messages: MESSAGES,
    ...(ask.stream ? { stream: true } : {}),
  });
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `${ask.baseUrl}/chat/completions`,
      {
        method: 'POST',
        agent: false,
        signal,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          authorization: `Bearer ${ask.apiKey ?? 'placeholder'}`,
        },
      },
      (response) => {
        let text = '';
        partial.status = response.statusCode;
        response.setEncoding('utf8');
        response.on('data', (part: string) => {
          text += part;
        });
        response.on('error', reject);
        response.on('end', () => {
          try {
            if (response.statusCode !== 200)
              throw new Error(`status ${response.statusCode}: ${text.slice(0, 300)}`);
            partial.text = ask.stream ? streamedText(text) : plainText(text);
            resolve();
          } catch (error) {
            reject(error);
          }
        });
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

function plainText(text: string): string {
  return (JSON.parse(text) as { choices: { message: { content: string } }[] }).choices[0]!.message.content;
}

function streamedText(text: string): string {
  let joined = '';
  for (const [, data = ''] of text.matchAll(/^data: (.*)$/gm)) {
    if (data === '[DONE]') continue;
    const value = JSON.parse(data) as {
      error?: { message: string };
      choices?: { delta: { content?: string } }[];
    };
    if (value.error !== undefined) throw new Error(value.error.message);
    joined += value.choices?.[0]?.delta.content ?? '';
  }
  return joined;
}
