/** Listens for the agent's requests to models: tells HTTP/2 from HTTP/1.1 by the first bytes, and loads the egress. */
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/reply.ts';
import { endOf } from '../llm/caller/response-end.ts';
import type { Egress } from '../llm/egress.ts';
import type { EgressEnvironment } from '../llm/provider/egress-context.ts';
import type { LlmSettings } from '../llm/shared/llm-settings.ts';
import type { LlmObserver } from '../llm/shared/request-observer.ts';
import { SentAhead } from '../node/sent-ahead.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { LlmStats } from '../telemetry/llm-stats.ts';
import type { Move } from './grpc-listener.ts';
import { listenOn } from './listen.ts';
import type { LlmHttp2 } from './llm-http2.ts';

export interface LlmListenerSettings extends LlmSettings {
  readonly listen: string;
}

export type LlmListenerEnvironment = Pick<
  EgressEnvironment,
  'wheel' | 'clock' | 'random' | 'events' | 'ownerCalls'
>;

/** The first bytes of HTTP/2 without an upgrade (RFC 9113, section 3.4); no HTTP/1 method is called so. */
const HTTP2_PREFACE = 'PRI ';
/** A client that connects and says nothing is closed. */
const FIRST_BYTES_TIMEOUT_MS = 10_000;
/** Of a client that has closed its side. */
const LAST_BYTES_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 120_000;
/** Longer than the idle time of the usual clients' pools, so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** A client that vanished without a word is looked for (by TCP) after so much silence. */
const PEER_CHECK_MS = 60_000;
const MAX_HEADER_BYTES = 65_536;
const MAX_CONNECTIONS = 4_096;
/** Clients that want more at a time open connections; so many requests ahead are somebody's who counts on no answers. */
const MAX_SENT_AHEAD = 64;

/**
 * Accepts the agent's requests to its LLM provider, over HTTP/1.1 and over HTTP/2 without TLS on one port, and hands
 * them to the egress. The egress and its libraries are loaded with the first connection: a sidecar whose agent asks
 * no model pays nothing for it.
 */
export class LlmListener {
  readonly stats = new LlmStats();
  readonly listenerStats = new ListenerStats('llm');
  private readonly environment: EgressEnvironment;
  private settings: LlmListenerSettings;
  private loading: Promise<Egress> | undefined = undefined;
  /** Undefined until the first connection. */
  egress: Egress | undefined = undefined;
  private server: HttpServer | undefined = undefined;
  private http2: LlmHttp2 | undefined = undefined;
  private readonly sockets = new LinkedList<Listed<Socket>>();
  private readonly sentAhead = new SentAhead({ maxRequests: MAX_SENT_AHEAD, above: 'end' });
  private watcher: LlmObserver | undefined = undefined;
  private draining = false;
  /** Gets bodies, if the configuration asks for them. */
  onBody: (direction: 'request' | 'answer', body: string) => void = () => {};
  /** Hears of connections that could not be accepted, and of requests that failed by a defect of ours. */
  onError: (error: unknown) => void = () => {};
  /** Where it listens, with the port the system chose for port 0. */
  address = '';

  constructor(settings: LlmListenerSettings, environment: LlmListenerEnvironment) {
    this.settings = settings;
    const logBody = (direction: 'request' | 'answer', body: string): void => this.onBody(direction, body);
    this.environment = { ...environment, variables: process.env, stats: this.stats, logBody };
    this.stats.configure(settings.upstreams);
  }

  /** @returns where it listens. Throws ListenError. */
  async listen(address: string): Promise<string> {
    const move = await this.open(address);
    move.commit();
    return move.address;
  }

  /** Listens on another address beside the present one, to move there or not. Throws ListenError. */
  async open(address: string): Promise<Move> {
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: PEER_CHECK_MS,
        // Any other upgrade that is offered (h2c) is none that has to be taken (RFC 9110, section 7.8).
        ...{ shouldUpgradeCallback: isWebSocket },
      },
      (request, response) => this.serve(request, response),
    );
    // The body is asked for when there is room for it.
    server.on('checkContinue', (request, response) => this.serve(request, response));
    server.on('upgrade', (request, socket, head) => this.serveWebSocket(request, socket as Socket, head));
    server.maxConnections = MAX_CONNECTIONS;
    server.on('drop', () => this.listenerStats.reject('too_many_connections'));
    // What is listened with speaks HTTP/1; who says HTTP/2's first words is handed to another server.
    const [acceptHttp1] = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) => this.accept(socket, () => acceptHttp1!.call(server, socket)));
    const bound = await listenOn(server, address, 'llm.listen', (error) => this.onError(error));
    return {
      address: bound,
      commit: () => {
        const old = this.server;
        this.server = server;
        this.address = bound;
        leave(old);
      },
      cancel: () => leave(server),
    };
  }

  /** From `listen` to `stopAccepting`. */
  get isListening(): boolean {
    return this.server?.listening === true;
  }

  /** Requests that have not been answered whole. */
  get activeRequests(): number {
    return this.egress?.activeRequests ?? 0;
  }

  set observer(observer: LlmObserver | undefined) {
    this.watcher = observer;
    if (this.egress !== undefined) this.egress.observer = observer;
  }

  apply(settings: LlmListenerSettings): void {
    this.settings = settings;
    this.stats.configure(settings.upstreams);
    this.egress?.apply(settings);
  }

  private accept(socket: Socket, acceptHttp1: () => void): void {
    const listed = new Listed(socket);
    this.sockets.add(listed);
    this.listenerStats.activeConnections++;
    socket.on('close', () => {
      this.sockets.remove(listed);
      this.listenerStats.activeConnections--;
    });
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    // It has left: what was written before still goes out, but is not kept for one that does not read.
    socket.on('end', () => socket.setTimeout(LAST_BYTES_TIMEOUT_MS, onError));
    socket.setTimeout(FIRST_BYTES_TIMEOUT_MS, onError);
    socket.once('readable', () => {
      const first = socket.read() as Buffer | null;
      if (first === null) {
        socket.destroy();
        return;
      }
      socket.unshift(first);
      void this.load().then(() => {
        if (socket.destroyed) return;
        socket.setTimeout(0, onError);
        socket.removeListener('timeout', onError);
        const preface = first.toString('latin1', 0, Math.min(first.length, HTTP2_PREFACE.length));
        // Fewer bytes than that are in no method's name either.
        if (HTTP2_PREFACE.startsWith(preface)) void this.acceptHttp2(socket);
        else {
          acceptHttp1();
          this.sentAhead.accept(socket);
        }
      });
    });
  }

  private async acceptHttp2(socket: Socket): Promise<void> {
    if (this.http2 === undefined) {
      const [http2, { LlmHttp2 }] = await Promise.all([import('node:http2'), import('./llm-http2.ts')]);
      this.http2 ??= new LlmHttp2(http2, KEEP_ALIVE_TIMEOUT_MS, (request, response) =>
        this.serve(request, response),
      );
    }
    // The sockets of an HTTP/1 server stay half open, and its HTTP/1 connections see to the end themselves. To a session of
    // HTTP/2 the end of what its client sends is the end of the connection: it can't even acknowledge what it gets.
    socket.allowHalfOpen = false;
    if (!socket.destroyed) this.http2.accept(socket);
  }

  private load(): Promise<Egress> {
    this.loading ??= import('../llm/egress.ts').then(({ Egress }) => {
      const egress = new Egress(this.settings, this.environment, this.watcher);
      this.egress = egress;
      if (this.draining) egress.drain();
      return egress;
    });
    return this.loading;
  }

  private serveWebSocket(request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.listenerStats.activeCalls++;
    socket.once('close', () => this.listenerStats.activeCalls--);
    try {
      this.egress!.acceptWebSocket(request, socket, this.sentAhead.leave(socket, head), isOnLoopback(socket));
    } catch (error) {
      this.onError(error);
      socket.destroy();
    }
  }

  /** @returns false when the egress has turned it away */
  private serve(request: DownstreamRequest, response: DownstreamResponse): boolean {
    if (this.draining && request.httpVersionMajor === 1) response.setHeader('connection', 'close');
    this.listenerStats.activeCalls++;
    endOf(response).once('close', () => this.listenerStats.activeCalls--);
    if (request.httpVersionMajor === 1)
      this.sentAhead.began(request as IncomingMessage, response as ServerResponse);
    try {
      return this.egress!.accept(request, response, isOnLoopback(request.socket));
    } catch (error) {
      // It costs this request and no other, of the egress or of the gRPC listeners.
      this.onError(error);
      if (!response.headersSent) response.statusCode = 500;
      response.end();
      return false;
    }
  }

  /** Accepts no more connections; those that are open go on. */
  stopAccepting(): void {
    leave(this.server);
    this.server = undefined;
  }

  /** New requests are refused; those under way are finished. */
  drain(): void {
    this.draining = true;
    this.egress?.drain();
  }

  /** The time to drain is over: what still runs is ended with `draining`. */
  endRequests(): void {
    this.egress?.endRequests();
  }

  close(): void {
    this.drain();
    this.stopAccepting();
    this.egress?.close();
    for (const socket of takeAll(this.sockets)) socket.destroy();
  }
}

/** A unix socket has no address, and no browser reaches it. */
function isOnLoopback({ localAddress }: Socket): boolean {
  return localAddress !== undefined && /^(?:127\.|::1$|::ffff:127\.)/.test(localAddress);
}

function isWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket';
}

/** Requests on its connections are finished; those that idle are closed. */
function leave(server: HttpServer | undefined): void {
  server?.close();
  server?.closeIdleConnections();
}
