/** Listens for the agent's model requests: distinguishes HTTP/2 from HTTP/1.1 by the first bytes, and loads the egress. */
import { createServer, type Server as HttpServer, IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import { step } from '../errors/illegal-step.ts';
import type { DownstreamRequest, DownstreamResponse } from '../llm/caller/downstream.ts';
import type { Egress } from '../llm/egress.ts';
import type { EgressEnvironment } from '../llm/provider/egress-context.ts';
import type { LlmSettings } from '../llm/shared/llm-settings.ts';
import type { LlmObserver } from '../llm/shared/request-observer.ts';
import { SentAhead } from '../node/sent-ahead.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { LlmMinutes } from '../telemetry/llm-minutes.ts';
import { LlmStats } from '../telemetry/llm-stats.ts';
import type { Credentials, CredentialsListener } from '../tls/credentials.ts';
import type { Move } from './grpc-listener.ts';
import { listenOn } from './listen.ts';
import { LISTENER_ARROWS, type ListenerState } from './listener-state.ts';
import { LlmHttp2, MAX_HEADER_BYTES } from './llm-http2.ts';
import { LLM_TLS, ServiceTls } from './service-tls.ts';

export interface LlmListenerSettings extends LlmSettings {
  readonly listen: string;
}

export type LlmListenerEnvironment = Pick<
  EgressEnvironment,
  'wheel' | 'clock' | 'random' | 'events' | 'ownerCalls' | 'journal' | 'lookup'
> &
  Partial<Pick<EgressEnvironment, 'counters' | 'wallClock'>> & {
    readonly certificates?: CredentialsListener;
  };

/** The start of the HTTP/2 preface (RFC 9113, section 3.4); no HTTP/1 method has this name. */
const HTTP2_PREFACE = 'PRI ';
/** How long a client may take to send its first bytes. */
const FIRST_BYTES_TIMEOUT_MS = 10_000;
/** How long a client that has closed its side may take to read the rest. */
const LAST_BYTES_TIMEOUT_MS = 5_000;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 120_000;
/** Longer than the idle time of the usual clients' pools, so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** After this silence TCP keepalive checks whether the client still exists. */
const PEER_CHECK_MS = 60_000;
const MAX_CONNECTIONS = 4_096;
/** How often the two times above are looked at. */
const CONNECTIONS_CHECK_MS = 5_000;
/** Clients that need more at a time open connections; one that pipelines more requests does not wait for answers. */
const MAX_SENT_AHEAD = 64;

/**
 * Accepts the agent's model requests, over HTTP/1.1 and over HTTP/2 without TLS on one port, and passes them to the egress.
 * It loads the egress and its libraries with the first connection, so that a sidecar whose agent uses no model has no cost.
 */
export class LlmListener {
  readonly stats = new LlmStats();
  /** The last minute of each model. */
  readonly minutes = new LlmMinutes(this.stats);
  readonly listenerStats = new ListenerStats('llm');
  private readonly environment: EgressEnvironment;
  private settings: LlmListenerSettings;
  private loading: Promise<Egress> | undefined = undefined;
  /** Undefined until the first connection. */
  egress: Egress | undefined = undefined;
  private server: HttpServer | undefined = undefined;
  private readonly http2: LlmHttp2;
  private readonly sockets = new LinkedList<Listed<Socket>>();
  private readonly tls: ServiceTls;
  private readonly sentAhead = new SentAhead({ maxRequests: MAX_SENT_AHEAD, above: 'end' });
  private watcher: LlmObserver | undefined = undefined;
  private state: ListenerState = 'starting';
  /** Called with bodies, if the configuration logs them. */
  onBody: (direction: 'request' | 'answer', body: string) => void = () => {};
  /** Called when a connection could not be accepted, or a request failed by a defect of ours. */
  onError: (error: unknown) => void = () => {};
  /** The address it listens on, with the port the system chose for port 0. */
  address = '';

  constructor(settings: LlmListenerSettings, environment: LlmListenerEnvironment) {
    this.settings = settings;
    const logBody = (direction: 'request' | 'answer', body: string): void => this.onBody(direction, body);
    this.environment = {
      counters: () => undefined,
      wallClock: Date.now,
      ...environment,
      variables: process.env,
      stats: this.stats,
      logBody,
    };
    this.tls = new ServiceTls(LLM_TLS, environment.certificates, (reason) =>
      this.listenerStats.reject(reason),
    );
    this.tls.apply(settings.tls);
    this.stats.configure(settings.upstreams);
    this.http2 = new LlmHttp2(environment.clock, KEEP_ALIVE_TIMEOUT_MS, (request, response) =>
      this.serve(request, response),
    );
  }

  /** @returns the address it listens on. Throws ListenError. */
  async listen(address: string): Promise<string> {
    const move = await this.open(address);
    move.commit();
    this.state = step(LISTENER_ARROWS, this.state, 'listening');
    return move.address;
  }

  /** Listens on a second address; the returned move commits or cancels the change. Throws ListenError. */
  async open(address: string): Promise<Move> {
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        connectionsCheckingInterval: CONNECTIONS_CHECK_MS,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: PEER_CHECK_MS,
        // A server may ignore any other upgrade, such as h2c (RFC 9110, section 7.8).
        ...{ shouldUpgradeCallback: isWebSocket },
      },
      (request, response) => this.serve(request, response),
    );
    // The egress sends 100 Continue when it has room for the body.
    server.on('checkContinue', (request, response) => this.serve(request, response));
    server.on('upgrade', (request, socket, head) => this.serveWebSocket(request, socket as Socket, head));
    server.maxConnections = MAX_CONNECTIONS;
    server.on('drop', () => this.listenerStats.reject('too_many_connections'));
    // The HTTP/1 server accepts; a connection that opens with the HTTP/2 preface goes to the HTTP/2 server.
    const [acceptHttp1] = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) =>
      this.tls.accept(socket, (secured) =>
        this.awaitFirstBytes(secured, () => acceptHttp1!.call(server, secured)),
      ),
    );
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

  /** True from `listen` to `stopAccepting`, unless the server has closed by itself. */
  get isListening(): boolean {
    return this.state === 'listening' && this.server?.listening === true;
  }

  private get isDraining(): boolean {
    return this.state === 'draining' || this.state === 'closed';
  }

  /** Requests whose answer is not complete. */
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
    this.tls.apply(settings.tls);
    this.egress?.apply(settings);
  }

  private awaitFirstBytes(socket: Socket, acceptHttp1: () => void): void {
    const listed = new Listed(socket);
    this.sockets.add(listed);
    this.listenerStats.activeConnections++;
    socket.on('close', () => {
      this.sockets.remove(listed);
      this.listenerStats.activeConnections--;
    });
    const onError = (): void => void socket.destroy();
    socket.on('error', onError);
    // The client has closed its side: send what was written, but not for longer than LAST_BYTES_TIMEOUT_MS.
    socket.on('end', () => socket.setTimeout(LAST_BYTES_TIMEOUT_MS, onError));
    socket.setTimeout(FIRST_BYTES_TIMEOUT_MS, onError);
    socket.once('readable', () => {
      const first: Buffer | null = socket.read();
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
        // No method begins with a part of the preface either, when fewer bytes arrived.
        if (HTTP2_PREFACE.startsWith(preface)) {
          // Sockets of an HTTP/1 server allow half-open connections, which HTTP/1 handles itself. Over HTTP/2 the end of the
          // client's bytes ends the connection: the client can't even acknowledge frames after it.
          socket.allowHalfOpen = false;
          this.http2.accept(socket);
        } else {
          acceptHttp1();
          this.sentAhead.intercept(socket);
        }
      });
    });
  }

  private load(): Promise<Egress> {
    this.loading ??= import('../llm/egress.ts').then(({ Egress }) => {
      const egress = new Egress(this.settings, this.environment, this.watcher);
      this.egress = egress;
      if (this.isDraining) egress.drain();
      return egress;
    });
    return this.loading;
  }

  private serveWebSocket(request: IncomingMessage, socket: Socket, head: Buffer): void {
    this.listenerStats.activeCalls++;
    socket.once('close', () => this.listenerStats.activeCalls--);
    try {
      this.egress!.handleWebSocket(
        request,
        socket,
        this.sentAhead.leave(socket, head),
        this.tls.peer(socket),
      );
    } catch (error) {
      this.onError(error);
      socket.destroy();
    }
  }

  /** @returns false when the egress has refused the request */
  private serve(request: DownstreamRequest, response: DownstreamResponse): boolean {
    if (this.isDraining && response instanceof ServerResponse) response.setHeader('connection', 'close');
    this.listenerStats.activeCalls++;
    response.once('close', () => this.listenerStats.activeCalls--);
    if (request instanceof IncomingMessage && response instanceof ServerResponse)
      this.sentAhead.began(request, response);
    try {
      return this.egress!.handleRequest(request, response, this.tls.peer(request.socket));
    } catch (error) {
      // The defect fails this request only, and no other of the egress or the gRPC listeners.
      this.onError(error);
      if (!response.headersSent) response.statusCode = 500;
      response.end();
      return false;
    }
  }

  /** Stops accepting connections; open connections stay. */
  stopAccepting(): void {
    this.tls.closeAllWaiting();
    leave(this.server);
    this.server = undefined;
  }

  /** Refuses new requests; requests in progress finish. */
  drain(): void {
    if (!this.isDraining) this.state = step(LISTENER_ARROWS, this.state, 'draining');
    this.egress?.drain();
  }

  /** Those of its certificate; undefined without TLS. */
  get credentials(): Credentials | undefined {
    return this.tls.credentials;
  }

  /** Gives back what this replica holds of its callers' limits and budgets, and does not use. */
  async giveBack(): Promise<void> {
    await this.egress?.giveBack();
  }

  /** The time to drain is over: ends the remaining requests with `draining`. */
  endRequests(): void {
    this.egress?.endRequests();
  }

  close(): void {
    this.drain();
    this.stopAccepting();
    if (this.state === 'draining') this.state = step(LISTENER_ARROWS, this.state, 'closed');
    this.egress?.close();
    this.tls.close();
    for (const socket of takeAll(this.sockets)) socket.destroy();
  }
}

function isWebSocket({ method, headers }: IncomingMessage): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket';
}

/** Stops accepting; requests on its connections finish, and idle connections close. */
function leave(server: HttpServer | undefined): void {
  server?.close();
  server?.closeIdleConnections();
}
