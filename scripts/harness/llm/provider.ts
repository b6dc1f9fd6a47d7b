// A scripted provider of models: one server, with a script for each first part of the path.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';

/** One received request. */
export interface ProviderRequest {
  readonly method: string;
  /** The part after the script's name: `/v1/chat/completions`. */
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  /** The body as JSON; undefined for any other body. */
  readonly json: Record<string, unknown> | undefined;
  /** 1 for the first request of its script. */
  readonly count: number;
  readonly atMs: number;
  /** Whether the client disconnected before the answer was complete. */
  aborted: boolean;
  readonly socket: Socket;
}

export type Script = (request: ProviderRequest, response: ServerResponse) => void | Promise<void>;

export interface LlmProvider {
  /** The base URL of a script, for an upstream: `http://127.0.0.1:PORT/NAME/v1`. */
  script(name: string, script: Script): string;
  /** The requests of a script so far. */
  requests(name: string): readonly ProviderRequest[];
  readonly port: number;
  close(): Promise<void>;
}

/** What makes it a provider with TLS, which speaks HTTP/2 to clients that offer it. */
interface ProviderTls {
  readonly cert: string;
  readonly key: string;
}

export async function startLlmProvider(tls?: ProviderTls): Promise<LlmProvider> {
  const scripts = new Map<string, { script: Script; requests: ProviderRequest[] }>();
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.on('error', () => {});
    const parts: Buffer[] = [];
    try {
      for await (const part of request) parts.push(part as Buffer);
    } catch {
      return;
    }
    const [, name = '', path = ''] = /^\/([^/]+)(.*)$/.exec(request.url ?? '') ?? [];
    const entry = scripts.get(name);
    if (entry === undefined) {
      response.writeHead(404).end();
      return;
    }
    const body = Buffer.concat(parts);
    const seen: ProviderRequest = {
      method: request.method ?? '',
      path,
      headers: request.headers,
      body,
      json: parse(body),
      count: entry.requests.length + 1,
      atMs: performance.now(),
      aborted: false,
      socket: request.socket,
    };
    entry.requests.push(seen);
    response.on('close', () => {
      seen.aborted = !response.writableFinished;
    });
    await entry.script(seen, response);
  };
  const sessions = new Set<{ destroy(): void }>();
  const server =
    tls === undefined
      ? createServer(serve)
      : // Its requests and responses have what the scripts use of those of HTTP/1.1.
        createSecureServer({ ...tls, allowHTTP1: true }, serve as never).on('session', (session) => {
          sessions.add(session);
          session.on('close', () => sessions.delete(session));
        });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    port,
    script(name, script) {
      scripts.set(name, { script, requests: [] });
      return `${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}/${name}/v1`;
    },
    requests: (name) => scripts.get(name)?.requests ?? [],
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
        if ('closeAllConnections' in server) server.closeAllConnections();
      }),
  };
}

function parse(body: Buffer): Record<string, unknown> | undefined {
  try {
    return JSON.parse(body.toString()) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}

/** The pieces of the whole answer. */
export const PIECES = ['one ', 'two ', 'three ', 'four ', 'five'];
export const WHOLE = PIECES.join('');
export const USAGE = { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 };

export function chatAnswer(content: string = WHOLE): object {
  return {
    id: 'chatcmpl-1',
    object: 'chat.completion',
    created: 1,
    model: 'm',
    choices: [{ index: 0, message: { role: 'assistant', content }, finish_reason: 'stop' }],
    usage: USAGE,
  };
}

export function chatChunk(content: string | undefined, finishReason: string | null = null): string {
  const delta = content === undefined ? {} : { content };
  const choices = [{ index: 0, delta, finish_reason: finishReason }];
  return `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'm', choices })}\n\n`;
}

export const USAGE_CHUNK = `data: ${JSON.stringify({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'm', choices: [], usage: USAGE })}\n\n`;
export const DONE = 'data: [DONE]\n\n';

export function sendJson(response: ServerResponse, status: number, body: object, headers = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    ...headers,
  });
  response.end(text);
}

export function sendError(response: ServerResponse, status: number, headers = {}): void {
  sendJson(
    response,
    status,
    { error: { message: `scripted ${status}`, type: 'scripted', code: null } },
    headers,
  );
}

export function beginStream(response: ServerResponse, headers = {}): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', ...headers });
  response.flushHeaders();
}

/** The whole answer, as a stream if requested. */
export const answerWhole: Script = ({ json }, response) => {
  if (json?.['stream'] !== true) {
    sendJson(response, 200, chatAnswer());
    return;
  }
  beginStream(response);
  for (const piece of PIECES) response.write(chatChunk(piece));
  response.write(chatChunk(undefined, 'stop'));
  const options = json['stream_options'] as { include_usage?: boolean } | undefined;
  if (options?.include_usage === true) response.write(USAGE_CHUNK);
  response.end(DONE);
};
