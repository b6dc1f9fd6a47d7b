/** The webhook's HTTPS server: one path, and bounds on everything that a client can send. */

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
  /** A review was answered, in so many milliseconds. */
  readonly onReviewed: (reviewed: Reviewed, durationMs: number) => void;
  /** A request was refused: an HTTP status, and why. */
  readonly onRefused: (status: number, reason: string) => void;
  /** A defect of ours, or a connection that could not be accepted (`AcceptError`). */
  readonly onError: (error: unknown) => void;
}

const MUTATE_PATH = '/mutate';
/** An object has 3 MiB at most where it comes in (the API server's own limit), and a review may hold two. */
const MAX_BODY_BYTES = 8 << 20;
/**
 * What has come of all reviews that are not answered yet. Bytes and not reviews are counted: the API server asks for as
 * many as pods are being created, and somebody who begins reviews and never ends them must not take others' places.
 */
const MAX_HELD_BYTES = 64 << 20;
/**
 * Texts, numbers, objects and lists in a review. Parsed, each takes up to a hundred bytes, however short it was: eight
 * megabytes of `{},` would take four hundred. A pod as large as etcd takes it has fewer.
 */
const MAX_VALUES = 262_144;
const MAX_CONNECTIONS = 256;
/** The API server sends none ahead over HTTP/1. */
const MAX_SENT_AHEAD = 4;
const MAX_HEADER_BYTES = 16_384;
const HANDSHAKE_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 5_000;
/** The API server sends a review at once, and gives up after `timeoutSeconds` (5 in the manifests). */
const REQUEST_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_TIMEOUT_MS = 90_000;

/** Codes of a connection that has ended without a word of its client. */
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

/** Serves as soon as it has a certificate. */
export class WebhookServer {
  private readonly options: WebhookServerOptions;
  private server: Server | undefined = undefined;
  /** Bytes of reviews. */
  private held = 0;
  /** Connections that are past their handshake. */
  private readonly secured = new WeakSet<Socket>();
  /** Connections with a request that has not been answered. */
  private readonly answering = new WeakSet<Socket>();
  /** With the port that the system chose for port 0; empty until it listens. */
  address = '';

  constructor(options: WebhookServerOptions) {
    this.options = options;
  }

  /** Shows this certificate to every connection from now on; the first one makes it listen. Throws ListenError. */
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
      // Node tells of a failed handshake here, too: of scanners and of clients with an old bundle; the API server reports its own.
      if (!this.secured.has(socket as Socket)) {
        this.options.onRefused(0, `TLS: ${error.message.slice(0, 200)}`);
        socket.destroy();
        return;
      }
      // A request that has begun is refused where its body is read, and a connection that is lost between two is none.
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

  /** Answers what it has, takes no more, and ends within `limitMs`. */
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
      if (this.held > MAX_HELD_BYTES) throw new Refusal(503, 'too many reviews at a time; try again');
    };
    try {
      const reviewed = review(await readReview(request, hold), this.options.inject);
      const body = JSON.stringify(reviewed.answer);
      response.writeHead(200, {
        'Content-Type': 'application/json',
        'Content-Length': Buffer.byteLength(body),
        // A server that is about to end lets its clients go to another one.
        ...(this.server?.listening ? {} : { Connection: 'close' }),
      });
      response.end(body);
      this.options.onReviewed(reviewed, performance.now() - startedMs);
    } catch (error) {
      if (error instanceof Refusal) this.refuse(request, response, error);
      else if (error instanceof ReviewError) this.refuse(request, response, new Refusal(400, error.message));
      else {
        // The failurePolicy of the configuration decides what becomes of the pod.
        this.options.onError(error);
        this.refuse(request, response, new Refusal(500, 'internal error; the log has it'));
      }
    } finally {
      this.answering.delete(socket);
      this.held -= bytes;
    }
  }

  private refuse(request: IncomingMessage, response: ServerResponse, { status, message }: Refusal): void {
    this.options.onRefused(status, message);
    if (response.headersSent || response.destroyed) return;
    // What is still to come of the body is not read: the connection ends with the answer.
    response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8', Connection: 'close' });
    response.end(`${message}\n`, () => request.destroy());
  }
}

const TOO_LARGE = `a review has at most ${MAX_BODY_BYTES >> 20} MiB`;

/** @param hold hears of each part that is kept, and may refuse it */
async function readReview(request: IncomingMessage, hold: (bytes: number) => void): Promise<unknown> {
  const path = (request.url ?? '').split('?', 1)[0];
  if (path !== MUTATE_PATH) throw new Refusal(404, `ask for ${MUTATE_PATH}`);
  if (request.method !== 'POST') throw new Refusal(405, 'use POST');
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (type !== 'application/json') throw new Refusal(415, 'send application/json');
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw new Refusal(413, TOO_LARGE);
  const chunks: Buffer[] = [];
  try {
    // The connection stays for the answer when this is left in the middle.
    for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      hold(chunk.length);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof Refusal) throw error;
    throw new Refusal(400, 'the request ended before its body did');
  }
  const body = Buffer.concat(chunks);
  chunks.length = 0;
  if (hasTooManyValues(body)) throw new Refusal(413, TOO_MANY_VALUES);
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new Refusal(400, 'the body is no JSON');
  }
}

const TOO_MANY_VALUES = `a review has at most ${MAX_VALUES} values`;

/** Each value but the first has a comma or a bracket in front, before its key if it has one. */
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
