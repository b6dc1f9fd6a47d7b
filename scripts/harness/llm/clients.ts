// Two clients of a model, the unmodified openai package and plain HTTP, and the outcome that each observes.
import { request as httpRequest } from 'node:http';
import OpenAI from 'openai';
import { OPENAI_FORM, type ProviderForm } from './forms.ts';

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
  http: (ask) => httpClient(OPENAI_FORM)(ask),
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

/** A client without a library, for an API of this form: any end of the bytes is an end, unless an event reports an error. */
export function httpClient(form: ProviderForm): Client {
  return (ask) => watched(ask, (asked, partial, signal) => askHttp(form, asked, partial, signal));
}

function askHttp(form: ProviderForm, ask: Ask, partial: Partial, signal: AbortSignal): Promise<void> {
  const body = JSON.stringify(form.body(ask.model, ask.stream));
  const root = ask.baseUrl.replace(/\/v1$/, '');
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      `${root}${form.path(ask.model, ask.stream)}`,
      {
        method: 'POST',
        agent: false,
        signal,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...form.headers,
          ...(ask.apiKey === undefined ? {} : { authorization: `Bearer ${ask.apiKey}` }),
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
            partial.text = ask.stream ? streamedText(form, text) : form.textOf(JSON.parse(text));
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

function streamedText(form: ProviderForm, text: string): string {
  let joined = '';
  for (const [, data = ''] of text.matchAll(/^data: (.*)$/gm)) joined += form.textOfEvent(data.trimEnd());
  return joined;
}
