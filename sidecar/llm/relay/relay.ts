/**
 * Relays one request to a provider through http2-proxy, and is the only file that knows it.
 *
 * What http2-proxy does here: hop-by-hop headers out of both directions, the body sent once there is a connection and
 * no faster than it goes, and both sides tied together, so that the end of one ends the other. What it can't do
 * (docs/decisions has the reasons) is done around it: it relays one request once, from a socket, so it is given a
 * request made of the buffered body for each attempt, and a stand-in for the response that only says when the attempt
 * is over.
 *
 * What a provider sends is a stranger's: nothing of it may throw past this file, where it would end the process.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import proxy from 'http2-proxy';
import { rawHeadCost } from '../shared/head-cost.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { JoinedPieces, type PiecesTaker } from './joined-pieces.ts';
import { readKeepAlive } from './kept-sockets.ts';
import { type FeedHandlers, ParserFeed } from './parser-feed.ts';
import { BufferedRequest, ResponseStandIn } from './proxy-stand-ins.ts';
import type { RelayRequest } from './relay-request.ts';

export interface RelayError {
  readonly code: string;
  /** A connection stood when it failed: the provider may have read the request. */
  readonly connected: boolean;
  /** The connection had been used before: the provider may have closed it just then. */
  readonly reused: boolean;
}

/** Exactly one of `onEnd`, `onError` and `onUnusable` is called, last; nothing after `abort`. */
export interface RelayHandlers {
  /** The connection stands, with TLS where it has that. */
  onConnected(): void;
  /** @param costBytes what its head takes in memory */
  onHead(status: number, headers: HttpHeaders, costBytes: number): void;
  onData(chunk: Buffer): void;
  onEnd(): void;
  onError(error: RelayError): void;
  /**
   * The provider has answered, with what HTTP does not allow here or what nobody here can handle.
   *
   * @param what of it, for people: never anything of a body
   */
  onUnusable(what: string): void;
}

/** As large as the listener takes them; Node's own bound is a quarter of that. */
export const MAX_HEADER_BYTES = 65_536;

/** Before an answer: one every few seconds for many minutes. Go's client takes five, and most others have no bound. */
export const MAX_INTERIM_ANSWERS = 128;

export class Relay implements FeedHandlers, PiecesTaker {
  private readonly request: RelayRequest;
  private readonly handlers: RelayHandlers;
  private readonly downstream: BufferedRequest;
  private readonly over = new ResponseStandIn(() =>
    this.unusable('101 and another protocol, which nobody asked for'),
  );
  private client: ClientRequest | undefined = undefined;
  private response: IncomingMessage | undefined = undefined;
  private feed: ParserFeed | undefined = undefined;
  private readonly pieces = new JoinedPieces(this);
  private interimAnswers = 0;
  /** Pieces go on at the end of this tick. */
  private flushes = false;
  private flushesSinceMs = 0;
  private isConnected = false;
  private ended = false;

  constructor(request: RelayRequest, handlers: RelayHandlers) {
    this.request = request;
    this.handlers = handlers;
    this.downstream = new BufferedRequest(request);
    const options = {
      onReq: (_request: unknown, { headers }: { headers: HttpHeaders }) => this.send(headers),
      onRes: (_request: unknown, _response: unknown, answer: IncomingMessage) => this.receive(answer),
    };
    const relayed = (proxy.web as unknown as Web)(this.downstream, this.over, options);
    relayed.then(
      () => {},
      (error: ProxyError) => this.fail(error),
    );
  }

  /** The last byte of the request has gone out on a connection that stands: the provider can work on it. */
  get sent(): boolean {
    return this.isConnected && this.client?.writableFinished === true;
  }

  pause(): void {
    this.feed?.pause();
  }

  resume(): void {
    this.feed?.resume();
  }

  /** Closes the request to the provider at once. */
  abort(): void {
    if (this.ended) return;
    this.ended = true;
    this.downstream.aborted = true;
    this.over.emit('close');
    this.client?.destroy();
  }

  private send(headers: HttpHeaders): ClientRequest {
    const { protocol, hostname, port, path, method, agent, body } = this.request;
    delete headers['forwarded'];
    if (method !== 'GET' && method !== 'HEAD') headers['content-length'] = String(body.bytes);
    const make = protocol === 'https:' ? httpsRequest : httpRequest;
    const maxHeaderSize = MAX_HEADER_BYTES;
    // Folded headers, bare line feeds, and a length beside chunks (RFC 9112, sections 2.2, 5.2 and 6.3): most clients read
    // them. Nothing of how a head is written goes on to the caller.
    const insecureHTTPParser = true;
    const setHost = true;
    const client = make({
      hostname,
      port,
      path,
      method,
      headers,
      agent,
      setHost,
      maxHeaderSize,
      insecureHTTPParser,
    });
    this.client = client;
    this.downstream.sentBy = client;
    client.on('error', () => this.rescue());
    client.on('information', () => {
      if (++this.interimAnswers > MAX_INTERIM_ANSWERS)
        this.unusable(`more than ${MAX_INTERIM_ANSWERS} interim answers`);
    });
    client.once('socket', (socket) => {
      this.feed = ParserFeed.of(socket, this);
      // Before the end of TLS's handshake nothing of the request can have been read.
      if (!socket.connecting) this.connected();
      else socket.once(protocol === 'https:' ? 'secureConnect' : 'connect', () => this.connected());
    });
    return client;
  }

  private connected(): void {
    this.isConnected = true;
    if (!this.ended) this.handlers.onConnected();
  }

  private receive(answer: IncomingMessage): void {
    if (this.ended) return;
    const status = answer.statusCode ?? 0;
    if (status < 200) {
      this.unusable(`the status ${status}`);
      return;
    }
    // It is written to the caller later, where nothing else could be answered any more.
    const { headers, rawHeaders } = answer;
    if (hasForbidden(rawHeaders)) {
      this.unusable(`a head of status ${status} with characters that HTTP forbids`);
      return;
    }
    this.response = answer;
    const costBytes = rawHeadCost(rawHeaders);
    readKeepAlive(answer.socket, rawHeaders);
    if (headers['content-length'] !== undefined && isCoded(rawHeaders)) delete headers['content-length'];
    // Node keeps them for as long as the answer goes on, and nobody asks it for them.
    answer.rawHeaders = [];
    answer.headers = {};
    answer.on('data', (piece: Buffer) => {
      if (this.feed?.isParsing === true) this.pieces.push(piece);
      else this.takeBehindHead(piece, answer.readableLength === 0);
    });
    answer.on('end', () => {
      this.pieces.flush();
      if (!this.ended && answer.complete) this.end();
    });
    try {
      this.handlers.onHead(status, headers as HttpHeaders, costBytes);
    } catch (error) {
      this.unusable(`a head that can't be handled (${nameOf(error)})`);
    }
  }

  takePieces(bytes: Buffer): void {
    if (this.ended) return;
    try {
      this.handlers.onData(bytes);
    } catch (error) {
      this.unusable(`what can't be handled (${nameOf(error)})`);
    }
  }

  onFed(): void {
    this.pieces.flush();
  }

  onEndlessHead(bytes: number): void {
    this.unusable(`${bytes} bytes of heads and no end of them`);
  }

  /** What came with the head is handed out behind it: usually one piece, which waits for no others. */
  private takeBehindHead(piece: Buffer, isLast: boolean): void {
    if (isLast && this.pieces.isEmpty) {
      this.takePieces(piece);
      return;
    }
    this.flushSoon();
    this.pieces.push(piece);
  }

  private flushSoon(): void {
    if (this.flushes) return;
    this.flushes = true;
    this.flushesSinceMs = performance.now();
    process.nextTick(flushPieces, this);
  }

  flushNow(): void {
    this.flushes = false;
    this.pieces.flush();
    this.feed?.account(this.flushesSinceMs);
  }

  /** The answer is whole, and what follows it is no HTTP: http2-proxy is about to throw away what was not read. */
  private rescue(): void {
    // What stood before that.
    this.pieces.flush();
    const answer = this.response;
    if (answer === undefined || !answer.complete || this.ended) return;
    while (answer.read() !== null);
    this.pieces.flush();
    if (!this.ended) this.end();
  }

  private end(): void {
    this.ended = true;
    this.over.emit('finish');
    try {
      this.handlers.onEnd();
    } catch (error) {
      this.handlers.onUnusable(`what can't be handled (${nameOf(error)})`);
    }
  }

  private unusable(what: string): void {
    if (this.ended) return;
    this.abort();
    this.handlers.onUnusable(what);
  }

  private fail(error: ProxyError): void {
    if (this.ended) return;
    // No HTTP at all, or more of it than is read.
    if (error.code?.startsWith('HPE_') && this.response === undefined) {
      this.unusable(`what is no HTTP/1.1 (${error.code})`);
      return;
    }
    this.ended = true;
    const connected = this.isConnected;
    const reused = this.client?.reusedSocket === true;
    try {
      this.handlers.onError({ code: error.code ?? 'EUNKNOWN', connected, reused });
    } catch (error) {
      this.handlers.onUnusable(`what can't be handled (${nameOf(error)})`);
    }
  }
}

function flushPieces(relay: Relay): void {
  relay.flushNow();
}

/** Names and values of fields (RFC 9110, section 5.5), which the parser does not look at closely. */
const FORBIDDEN_IN_NAMES = /[^\w!#$%&'*+.^`|~-]/;
const FORBIDDEN_IN_VALUES = /[^\t\x20-\x7e\x80-\xff]/;

/** Whether a field has characters that HTTP forbids, so that it can't be sent on. */
function hasForbidden(rawHeaders: readonly string[]): boolean {
  for (let at = 0; at < rawHeaders.length; at += 2)
    if (FORBIDDEN_IN_NAMES.test(rawHeaders[at]!) || FORBIDDEN_IN_VALUES.test(rawHeaders[at + 1]!))
      return true;
  return false;
}

/** Has it a `transfer-encoding`, which rules out its length (RFC 9112, section 6.3)? */
function isCoded(rawHeaders: readonly string[]): boolean {
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const name = rawHeaders[at]!;
    if (name.length === 'transfer-encoding'.length && name.toLowerCase() === 'transfer-encoding') return true;
  }
  return false;
}

interface ProxyError extends Error {
  code?: string;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}

/** Its types want the objects of `node:http`; it uses no more of them than these have. */
type Web = (request: BufferedRequest, response: ResponseStandIn, options: object) => Promise<void>;
