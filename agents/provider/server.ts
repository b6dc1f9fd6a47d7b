/** The HTTP server of the offline provider. */
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Answer, answer, isPlanner } from './answer.ts';
import { type AnswerIdentity, chatCompletion, chatCompletionEvents } from './chat.ts';
import { control } from './control.ts';
import { embeddings } from './embeddings.ts';
import { type Behaviour, Faults } from './faults.ts';
import { nonce, planFor } from './planner.ts';
import { readJson } from './read-json.ts';
import { RequestError, readChatRequest, readResponsesRequest, type TextRequest } from './requests.ts';
import { responseEvents, response as responseShape } from './responses.ts';
import { sendEvents, sendJson } from './send.ts';
import { StatsCounter } from './stats.ts';
import { tokensOf } from './tokens.ts';
import { sumFor, type ToolCall } from './tool-call.ts';

/** The models that /v1/models lists. The provider also answers requests for any other name. */
const models = ['gpt-4o-mini', 'gpt-4o', 'text-embedding-3-small'];

export interface Provider {
  /** The base URL for an OpenAI client: `http://host:port/v1`. */
  readonly baseUrl: string;
  readonly faults: Faults;
  readonly stats: StatsCounter;
  close(): Promise<void>;
}

/** A request in progress; the signal fires when the caller disconnects. */
interface Exchange {
  request: IncomingMessage;
  response: ServerResponse;
  signal: AbortSignal;
}

/** The two functions of a text endpoint: one parses its request, one formats its answer. */
const textEndpoints = {
  '/v1/chat/completions': { read: readChatRequest, whole: chatCompletion, events: chatCompletionEvents },
  '/v1/responses': { read: readResponsesRequest, whole: responseShape, events: responseEvents },
} as const;

const knownPaths: ReadonlySet<string> = new Set([
  ...Object.keys(textEndpoints),
  '/v1/embeddings',
  '/v1/models',
]);

/**
 * Starts an OpenAI-compatible server that needs no model and no network.
 *
 * @param port 0 for any free one
 */
export async function startProvider(host: string, port: number): Promise<Provider> {
  const faults = new Faults();
  const stats = new StatsCounter();
  const server = createServer((request, response) => {
    const gone = new AbortController();
    response.once('close', () => {
      if (!response.writableFinished) gone.abort(new Error('the caller disconnected'));
    });
    void serve({ request, response, signal: gone.signal }, faults, stats);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const { port: bound } = server.address() as AddressInfo;
  return {
    baseUrl: `http://${host}:${bound}/v1`,
    faults,
    stats,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function serve(exchange: Exchange, faults: Faults, stats: StatsCounter): Promise<void> {
  const { request, response } = exchange;
  const path = (request.url ?? '/').split('?', 1)[0]!;
  if (path.startsWith('/control/')) return control(exchange, path, faults, stats);
  stats.begin(knownPaths.has(path) ? path : 'other');
  response.once('close', () => stats.end(response.statusCode, !response.writableFinished));
  try {
    await route(exchange, path, faults, stats);
  } catch (error) {
    if (response.destroyed || exchange.signal.aborted) return;
    if (response.headersSent) response.destroy();
    else if (error instanceof RequestError) sendError(response, error.status, error.message, error.param);
    else sendError(response, 500, 'internal error of the offline provider');
  }
}

async function route(exchange: Exchange, path: string, faults: Faults, stats: StatsCounter): Promise<void> {
  const { request, response, signal } = exchange;
  if (request.method === 'GET' && path === '/v1/models') {
    const data = models.map((id) => ({ id, object: 'model', created: 0, owned_by: 'offline' }));
    return sendJson(response, { object: 'list', data }, {}, signal);
  }
  if (request.method !== 'POST') throw new RequestError(404, `unknown path: ${request.method} ${path}`);
  const body = await readJson(request);
  if (path === '/v1/embeddings') return sendJson(response, embeddings(body), {}, signal);
  if (!Object.hasOwn(textEndpoints, path)) throw new RequestError(404, `unknown path: POST ${path}`);

  const { read, whole, events } = textEndpoints[path as keyof typeof textEndpoints];
  const asked = read(body);
  stats.asked(asked.model, firstOf(request.headers['x-task-id']) ?? asked.user);
  const facts = { model: asked.model, question: asked.prompt.question, headers: request.headers };
  const behaviour = faults.take(facts);
  if (behaviour.latency_ms) await sleep(behaviour.latency_ms, undefined, { signal });
  if (refuse(response, behaviour)) return;

  const given = answerOf(asked, behaviour);
  const identity = newIdentity();
  stats.answering(given.inputTokens);
  if (asked.stream) {
    await sendEvents(response, events(asked, given, identity), behaviour, signal, () => stats.sent(1));
  } else {
    await sendJson(response, whole(asked satisfies TextRequest, given, identity), behaviour, signal);
    stats.sent(given.tokens.length);
  }
}

function answerOf(request: TextRequest, behaviour: Behaviour): Answer {
  const { output_tokens, tool_call, vary = false } = behaviour;
  const { prompt, maxTokens, tools, toolResult, rounds } = request;
  const calling = (toolCalls: ToolCall[]): Answer => ({
    tokens: [],
    finishReason: 'stop',
    inputTokens: prompt.inputTokens,
    toolCalls,
  });
  if (tool_call !== undefined)
    return calling([{ name: tool_call.name, arguments: tool_call.arguments ?? '{}' }]);
  const planned = isPlanner(prompt) ? planFor(prompt.question, tools, rounds, vary) : undefined;
  if (planned !== undefined && 'calls' in planned) return calling(planned.calls);
  if (planned !== undefined)
    return { tokens: tokensOf(planned.text), finishReason: 'stop', inputTokens: prompt.inputTokens };
  const sum = toolResult === undefined ? sumFor(prompt.question, tools) : undefined;
  if (sum !== undefined) return calling([sum]);
  const given = answer(prompt, maxTokens, output_tokens, toolResult);
  return vary ? { ...given, tokens: [`(Answer ${nonce()})`, ' ', ...given.tokens] } : given;
}

/** Sends the error that the behaviour demands; false if it demands none. */
function refuse(response: ServerResponse, { fail, throttle }: Behaviour): boolean {
  if (throttle) {
    if (throttle.retry_after !== undefined) response.setHeader('retry-after', throttle.retry_after);
    sendError(response, 429, 'Rate limit reached.');
  } else if (fail) sendError(response, fail.status, `A fault rule makes the provider answer ${fail.status}.`);
  return throttle !== undefined || fail !== undefined;
}

function sendError(
  response: ServerResponse,
  status: number,
  message: string,
  param: string | null = null,
): void {
  const type = status === 429 ? 'rate_limit_error' : status < 500 ? 'invalid_request_error' : 'server_error';
  const code = status === 429 ? 'rate_limit_exceeded' : null;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ error: { message, type, param, code } }));
}

function newIdentity(): AnswerIdentity {
  return { id: randomBytes(12).toString('hex'), created: Math.floor(Date.now() / 1000) };
}

function firstOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}
