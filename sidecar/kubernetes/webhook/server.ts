/** The webhook's HTTPS server: one path, and bounds on all input of clients. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { Socket } from 'node:net';
import { TypedError } from '../../errors/typed-error.ts';
import { sendFinalResponse } from '../../listeners/final-response.ts';
import { boundConnections } from '../../listeners/http-connections.ts';
import { listenOn } from '../../listeners/listen.ts';
import { SentAhead } from '../../node/sent-ahead.ts';
import { joinRecords } from '../../tls/joined-records.ts';
import type { InjectContext } from '../inject/patch.ts';
import { ReviewError, type Reviewed, review } from './admission.ts';
import type { CertificateMaterial } from './certificate.ts';

export interface WebhookServerOptions {
  readonly listen: string;
  readonly inject: InjectContext;
  /** A review was answered after this many milliseconds. */
  readonly onReviewed: (reviewed: Reviewed, durationMs: number) => void;
  /** A request was refused, with this HTTP status and reason. */
  readonly onRefused: (status: number, reason: string) => void;
  /** A defect of ours, or a connection that the server could not accept (`AcceptError`). */
  readonly onError: (error: unknown) => void;
}

const MUTATE_PATH = '/mutate';
/** An incoming object has 3 MiB at most (the API server's own limit), and a review may hold two. */
const MAX_BODY_BYTES = 8 << 20;
/**
 * The bound on the received bytes of all unanswered reviews. It counts bytes and not reviews: the API server sends one
 * review for each new pod, and a client that begins reviews and never ends them must not take others' places.
 */
const MAX_HELD_BYTES = 64 << 20;
/**
 * The number of texts, numbers, objects and lists in a review. Each takes up to a hundred bytes once parsed, however
 * short it was: eight megabytes of `{},` would take four hundred. The largest pod that etcd accepts has fewer.
 */
const MAX_VALUES = 262_144;
const MAX_CONNECTIONS = 256;
/** The API server pipelines no requests over HTTP/1. */
const MAX_SENT_AHEAD = 4;
const MAX_HEADER_BYTES = 16_384;
const HANDSHAKE_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 5_000;
/** The API server sends a review at once, and gives up after `timeoutSeconds` (5 in the manifests). */
const REQUEST_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_TIMEOUT_MS = 90_000;

/** Error codes of a connection that the client closed without a request. */
const LOST: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ETIMEDOUT']);

/** An answer that is no review. */
class Refusal extends TypedError {
  override readonly name = 'Refusal';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Starts listening at its first certificate. */
export class WebhookServer {
  private readonly options: WebhookServerOptions;
  private server: Server | undefined = undefined;
  /** Received bytes of unanswered reviews. */
  private held = 0;
  /** Connections whose handshake is complete. */
  private readonly secured = new WeakSet<Socket>();
  /** Connections with an unanswered request. */
  private readonly answering = new WeakSet<Socket>();
  /** Includes the port that the system chose for port 0; empty until the server listens. */
  address = '';

  constructor(options: WebhookServerOptions) {
    this.options = options;
  }

  /** Uses this certificate for new connections; the first call starts to listen. Throws ListenError. */
  async use({ cert, key }: Pick<CertificateMaterial, 'cert' | 'key'>): Promise<void> {
    if (this.server !== undefined) {
      this.server.setSecureContext({ cert, key, minVersion: 'TLSv1.3' });
      return;
    }
    const server = createServer(
      {
        cert,
        key,
        minVersion: 'TLSv1.3',
        handshakeTimeout: HANDSHAKE_TIMEOUT_MS,
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => void this.answer(request, response),
    );
    boundConnections(server, MAX_CONNECTIONS);
    SentAhead.on(server, 'secureConnection', { maxRequests: MAX_SENT_AHEAD, above: 'wait' });
    server.on('secureConnection', (socket) => {
      joinRecords(socket);
      this.secured.add(socket);
    });
    server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
      // Node also reports failed handshakes here: of scanners, and of clients with an old bundle. The API server
      // reports its own.
      if (!this.secured.has(socket as Socket)) {
        this.options.onRefused(0, `TLS: ${error.message.slice(0, 200)}`);
        socket.destroy();
        return;
      }
      // A started request is refused where its body is read, and a connection lost between two requests is no refusal.
      const isRequest = !this.answering.has(socket as Socket) && !LOST.has(error.code ?? '');
      if (isRequest) this.options.onRefused(400, error.code ?? error.message);
      sendFinalResponse(
        socket as Socket,
        'HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
      );
    });
    this.server = server;
    this.address = await listenOn(server, this.options.listen, '--listen', this.options.onError);
  }

  /** From the first certificate to `close`. */
  get isListening(): boolean {
    return this.server?.listening === true;
  }

  /** Answers the requests in flight, accepts no more, and ends within `limitMs`. */
  async close(limitMs: number): Promise<void> {
    const { server } = this;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    const timer = setTimeout(() => server.closeAllConnections(), limitMs);
    await closed;
    clearTimeout(timer);
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedMs = performance.now();
    let bytes = 0;
    const { socket } = request;
    this.answering.add(socket);
    const hold = (more: number): void => {
      bytes += more;
      this.held += more;
      if (bytes > MAX_BODY_BYTES) throw new Refusal(413, TOO_LARGE);
      if (this.held > MAX_HELD_BYTES) throw new Refusal(503, 'too many reviews at once; try again');
    };
    try {
      const reviewed = review(await readReview(request, hold), this.options.inject);
      const body = JSON.stringify(reviewed.answer);
      response.writeHead(200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
        // A server that is about to stop lets its clients connect to another one.
        ...(this.server?.listening ? {} : { Connection: 'close' }),
      });
      response.end(body);
      this.options.onReviewed(reviewed, performance.now() - startedMs);
    } catch (error) {
      if (error instanceof Refusal) this.refuse(request, response, error);
      else if (error instanceof ReviewError) this.refuse(request, response, new Refusal(400, error.message));
      else {
        // The configuration's failurePolicy decides about the pod.
        this.options.onError(error);
        this.refuse(request, response, new Refusal(500, 'internal error; the log has the details'));
      }
    } finally {
      this.answering.delete(socket);
      this.held -= bytes;
    }
  }

  private refuse(request: IncomingMessage, response: ServerResponse, { status, message }: Refusal): void {
    this.options.onRefused(status, message);
    if (response.headersSent || response.destroyed) return;
    // We do not read the rest of the body: the connection closes with the answer.
    response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
    response.end(`${message}\n`, () => request.destroy());
  }
}

const TOO_LARGE = `a review has at most ${MAX_BODY_BYTES >> 20} MiB`;

/** @param hold receives the size of each part that we keep, and may refuse it */
async function readReview(request: IncomingMessage, hold: (bytes: number) => void): Promise<unknown> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (path !== MUTATE_PATH) throw new Refusal(404, `unknown path; use ${MUTATE_PATH}`);
  if (request.method !== 'POST') throw new Refusal(405, 'use POST');
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (type !== 'application/json') throw new Refusal(415, 'send application/json');
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw new Refusal(413, TOO_LARGE);
  const chunks: Buffer[] = [];
  try {
    // The connection stays open for the answer if the loop ends early.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      hold(chunk.length);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(400, 'the client closed the request before its body was complete');
  }
  const body = Buffer.concat(chunks);
  chunks.length = 0;
  if (hasTooManyValues(body)) throw new Refusal(413, TOO_MANY_VALUES);
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new Refusal(400, 'the body is not valid JSON');
  }
}

const TOO_MANY_VALUES = `a review has at most ${MAX_VALUES} values`;

/** Each value except the first follows a comma or a bracket, before its key if it has one. */
function hasTooManyValues(json: Buffer): boolean {
  if (json.length <= MAX_VALUES) return false;
  let values = 0;
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case 0x22 /* " */:
        at = endOfString(json, at + 1);
        break;
      case 0x2c /* , */:
      case 0x5b /* [ */:
      case 0x7b /* { */:
        values++;
    }
  }
  return values > MAX_VALUES;
}

/** The quote that ends a string, or the end of the text. */
function endOfString(json: Buffer, from: number): number {
  let quote = json.indexOf(0x22, from);
  while (quote >= 0) {
    let backslashes = 0;
    while (json[quote - 1 - backslashes] === 0x5c) backslashes++;
    if (backslashes % 2 === 0) return quote;
    quote = json.indexOf(0x22, quote + 1);
  }
  return json.length;
}
