/**
 * The small HTTP server under admin, metrics and health: a table of routes, and bounds on everything that a client can
 * send. Its answers never contain any part of a request.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { SentAhead } from '../node/sent-ahead.ts';
import { sendFinalResponse } from './final-response.ts';
import { boundConnections } from './http-connections.ts';
import { listenOn } from './listen.ts';
import { unreadPages } from './unread-pages.ts';

export interface HttpRoute {
  /** A GET route answers HEAD too. */
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** A thrown error becomes status 500, without its message. */
  readonly handle: (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;
}

export interface HttpServerOptions {
  /** The setting that has the address, for messages: `admin.listen`. */
  readonly setting: string;
  readonly listen: string;
  readonly routes: readonly HttpRoute[];
  /** Returns why to refuse a request with 403; the text must not contain any part of the request. */
  readonly refuse?: (request: IncomingMessage) => string | undefined;
  /** For the log: a handler failed, which is a defect, or `accept` failed (`AcceptError`). */
  readonly onError: (error: unknown) => void;
}

export interface HttpServer {
  /** With the port that the system chose for port 0. */
  readonly address: string;
  /** Closes every connection, also those that stream events. */
  close(): Promise<void>;
}

/** Many more than some operators, a scraper and a kubelet need; see `http-connections.ts` for what happens above it. */
const MAX_CONNECTIONS = 128;
const MAX_HEADER_BYTES = 16_384;
/** No route reads a body; a small one is discarded so that the client can reuse the connection. */
const MAX_BODY_BYTES = 65_536;
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
const KEEP_ALIVE_TIMEOUT_MS = 5_000;
/** A client that requests and does not read must not keep one of the few connections. */
const READ_TIMEOUT_MS = 10_000;
/** Browsers, scrapers and kubelets do not pipeline requests. */
const MAX_SENT_AHEAD = 4;

/** Starts the server; throws `ListenError`. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: REQUEST_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void serve(options, request, response),
  );
  boundConnections(server, MAX_CONNECTIONS);
  SentAhead.on(server, 'connection', { maxRequests: MAX_SENT_AHEAD, above: 'wait' });
  server.on('clientError', refuseMalformed);
  const address = await listenOn(server, options.listen, options.setting, options.onError);
  return {
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function serve(
  options: HttpServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Cache-Control', 'no-store');
    skipBody(request);
    await answer(options, request, response);
  } catch (error) {
    options.onError(error);
    if (response.headersSent) response.destroy();
    else sendJson(response, 500, { error: 'internal error; the log has it' });
  }
}

async function answer(
  { routes, refuse }: HttpServerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const refusal = refuse?.(request);
  if (refusal !== undefined) return sendJson(response, 403, { error: refusal });

  const path = (request.url ?? '').split('?', 1)[0];
  const onPath = routes.filter((route) => route.path === path);
  if (onPath.length === 0) {
    return sendJson(response, 404, { error: 'no such page', pages: routes.map((route) => route.path) });
  }
  const method = request.method === 'HEAD' ? 'GET' : request.method;
  const route = onPath.find((candidate) => candidate.method === method);
  if (route === undefined) {
    const allow = onPath.map((candidate) => candidate.method).join(', ');
    response.setHeader('Allow', allow);
    return sendJson(response, 405, { error: `use ${allow}` });
  }
  await route.handle(request, response);
}

function skipBody(request: IncomingMessage): void {
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) request.destroy();
  });
  // A client that disconnects while it sends is no error of ours.
  request.on('error', () => {});
}

/** The parser failed, so there is no response object: write a short answer and close. */
function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const status = STATUS_OF_PARSER_ERROR[error.code ?? ''] ?? '400 Bad Request';
  sendFinalResponse(socket, `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

const STATUS_OF_PARSER_ERROR: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

/** Answers with indented JSON, because operators read it with curl. */
export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  send(response, status, 'application/json; charset=utf-8', `${JSON.stringify(value, null, 2)}\n`);
}

/** @param readTimeoutMs the connection is closed when its client reads no byte of the answer for this time */
export function send(
  response: ServerResponse,
  status: number,
  contentType: string,
  body: string | Buffer,
  readTimeoutMs = READ_TIMEOUT_MS,
): void {
  response.setTimeout(readTimeoutMs, () => response.destroy());
  response.writeHead(status, { 'Content-Type': contentType, 'Content-Length': Buffer.byteLength(body) });
  unreadPages.hold(body, response);
  response.end(body);
}
