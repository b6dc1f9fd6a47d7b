/**
 * Relays one request to a provider over HTTP/1.1 through http2-proxy, and is the only file that knows it.
 *
 * http2-proxy removes hop-by-hop headers in both directions, sends the body once there is a connection and no faster than
 * the connection takes it, and ties both sides together, so that the end of one ends the other. It relays one request once,
 * from a socket (docs/decisions has the reasons). So each attempt gives it a request made of the buffered body, and a
 * stand-in for the response that only reports when the attempt is over.
 *
 * A provider is a stranger: no exception that its bytes cause may leave this file, where it would end the process.
 */
import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import proxy from 'http2-proxy';
import { rawHeadCost } from '../shared/head-cost.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { hasForbidden } from './header-fields.ts';
import { JoinedPieces, type PiecesTaker } from './joined-pieces.ts';
import { readKeepAlive } from './kept-sockets.ts';
import { type FeedHandlers, ParserFeed } from './parser-feed.ts';
import {
  MAX_HEADER_BYTES,
  MAX_INTERIM_ANSWERS,
  type ProviderRelay,
  type RelayHandlers,
} from './provider-relay.ts';
import { BufferedRequest, ResponseStandIn } from './proxy-stand-ins.ts';
import type { RelayRequest } from './relay-request.ts';

export class Relay implements ProviderRelay, FeedHandlers, PiecesTaker {
  private readonly request: RelayRequest;
  private readonly handlers: RelayHandlers;
  private readonly downstream: BufferedRequest;
  private readonly over = new ResponseStandIn(() =>
    this.unusable('101 and another protocol, which the request did not ask for'),
  );
  private client: ClientRequest | undefined = undefined;
  private response: IncomingMessage | undefined = undefined;
  private feed: ParserFeed | undefined = undefined;
  private readonly pieces = new JoinedPieces(this);
  private interimAnswers = 0;
  /** Pieces are flushed at the end of this tick. */
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

  get sent(): boolean {
    return this.isConnected && this.client?.writableFinished === true;
  }

  pause(): void {
    this.feed?.pause();
  }

  resume(): void {
    this.feed?.resume();
  }

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
    // Most clients read folded headers, bare line feeds, and a length beside chunks (RFC 9112, sections 2.2, 5.2 and 6.3).
    // The caller's head is written anew, so none of these reaches it.
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
      // Before the end of TLS's handshake the provider can't have read any of the request.
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
    // Check the head now: when it is written to the caller, no other answer is possible any more.
    const { headers, rawHeaders } = answer;
    if (hasForbidden(rawHeaders)) {
      this.unusable(`a head of status ${status} with characters that HTTP forbids`);
      return;
    }
    this.response = answer;
    const costBytes = rawHeadCost(rawHeaders);
    readKeepAlive(answer.socket, rawHeaders);
    if (headers['content-length'] !== undefined && isCoded(rawHeaders)) delete headers['content-length'];
    // Node would keep them until the answer ends, and nothing reads them.
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

  /** Takes a piece that came with the head: usually the only one, which waits for no others. */
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

  /** The answer is whole, and the bytes after it are no HTTP: reads the answer before http2-proxy drops it. */
  private rescue(): void {
    // The pieces before those bytes.
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
    // The parser has refused the bytes: they are no HTTP, or a head is too long.
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

/** Whether the head has a `transfer-encoding`, which overrides its length (RFC 9112, section 6.3). */
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

/** http2-proxy's types demand the objects of `node:http`; its code uses only what these have. */
type Web = (request: BufferedRequest, response: ResponseStandIn, options: object) => Promise<void>;
