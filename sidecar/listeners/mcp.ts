/** Listens for what the agent sends to tool servers, and loads the egress with the first connection. */
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { Socket } from 'node:net';
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import { step } from '../errors/illegal-step.ts';
import type { McpEgress } from '../mcp/egress.ts';
import type { McpEnvironment } from '../mcp/server/mcp-context.ts';
import type { McpObserver } from '../mcp/shared/mcp-observer.ts';
import type { McpSettings } from '../mcp/shared/mcp-settings.ts';
import { SentAhead } from '../node/sent-ahead.ts';
import { ListenerStats } from '../telemetry/call-stats.ts';
import { McpStats } from '../telemetry/mcp-stats.ts';
import type { Credentials, CredentialsListener } from '../tls/credentials.ts';
import type { Move } from './grpc-listener.ts';
import { listenOn } from './listen.ts';
import { LISTENER_ARROWS, type ListenerState } from './listener-state.ts';
import { MCP_TLS, ServiceTls } from './service-tls.ts';

export interface McpListenerSettings extends McpSettings {
  readonly listen: string;
}

export type McpListenerEnvironment = Pick<
  McpEnvironment,
  'wheel' | 'clock' | 'random' | 'events' | 'ownerCalls' | 'journal'
> & { readonly certificates?: CredentialsListener };

const MAX_HEADER_BYTES = 65_536;
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 120_000;
/** Longer than the idle time of the usual clients' pools, so that they close first. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
/** After this silence TCP keepalive checks whether the client still exists. */
const PEER_CHECK_MS = 60_000;
const MAX_CONNECTIONS = 4_096;
const MAX_SENT_AHEAD = 64;

/** It listens only while the configuration names a tool server. */
export class McpListener {
  readonly stats = new McpStats();
  readonly listenerStats = new ListenerStats('mcp');
  private readonly environment: McpEnvironment;
  private settings: McpListenerSettings;
  private loading: Promise<McpEgress> | undefined = undefined;
  /** Undefined until the first connection. */
  egress: McpEgress | undefined = undefined;
  private server: HttpServer | undefined = undefined;
  private readonly sockets = new LinkedList<Listed<Socket>>();
  private readonly tls: ServiceTls;
  private readonly sentAhead = new SentAhead({ maxRequests: MAX_SENT_AHEAD, above: 'end' });
  private watcher: McpObserver | undefined = undefined;
  private state: ListenerState = 'starting';
  /** Called when a connection could not be accepted, or a request failed by a defect of ours. */
  onError: (error: unknown) => void = () => {};
  /** The address it listens on; '' while it does not. */
  address = '';

  constructor(settings: McpListenerSettings, environment: McpListenerEnvironment) {
    this.settings = settings;
    this.environment = { ...environment, variables: process.env, stats: this.stats };
    this.tls = new ServiceTls(MCP_TLS, environment.certificates, (reason) =>
      this.listenerStats.reject(reason),
    );
    this.tls.apply(settings.tls);
  }

  /** @returns the address it listens on; '' without a tool server. Throws ListenError. */
  async listen(): Promise<string> {
    this.state = step(LISTENER_ARROWS, this.state, 'listening');
    if (this.settings.servers.size > 0) (await this.open(this.settings.listen)).commit();
    return this.address;
  }

  /** The change of address that new settings need; undefined where they need none. Throws ListenError. */
  async moveFor(settings: McpListenerSettings): Promise<Move | undefined> {
    const isWanted = settings.servers.size > 0;
    if (isWanted && this.server !== undefined && settings.listen === this.settings.listen) return undefined;
    if (isWanted) return this.open(settings.listen);
    if (this.server === undefined) return undefined;
    return { address: '', commit: () => this.use(undefined, ''), cancel() {} };
  }

  private async open(address: string): Promise<Move> {
    const server = createServer(
      {
        maxHeaderSize: MAX_HEADER_BYTES,
        headersTimeout: HEADERS_TIMEOUT_MS,
        requestTimeout: REQUEST_TIMEOUT_MS,
        keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: PEER_CHECK_MS,
      },
      (request, response) => this.serve(request, response),
    );
    server.on('checkContinue', (request, response) => this.serve(request, response));
    server.maxConnections = MAX_CONNECTIONS;
    server.on('drop', () => this.listenerStats.reject('too_many_connections'));
    // The HTTP server accepts; where there is TLS, it gets what the handshake has let in.
    const [acceptHttp] = server.listeners('connection') as ((socket: Socket) => void)[];
    server.removeAllListeners('connection');
    server.on('connection', (socket: Socket) =>
      this.tls.accept(socket, (secured) => {
        this.hold(secured);
        acceptHttp!.call(server, secured);
        this.sentAhead.intercept(secured);
      }),
    );
    const bound = await listenOn(server, address, 'mcp.listen', (error) => this.onError(error));
    return { address: bound, commit: () => this.use(server, bound), cancel: () => leave(server) };
  }

  private use(server: HttpServer | undefined, address: string): void {
    const old = this.server;
    this.server = server;
    this.address = address;
    leave(old);
  }

  private hold(socket: Socket): void {
    const listed = new Listed(socket);
    this.sockets.add(listed);
    this.listenerStats.activeConnections++;
    socket.on('close', () => {
      this.sockets.remove(listed);
      this.listenerStats.activeConnections--;
    });
  }

  /** False only when it should listen and the server has closed by itself. */
  get isListening(): boolean {
    return this.server === undefined || this.server.listening;
  }

  private get isDraining(): boolean {
    return this.state === 'draining' || this.state === 'closed';
  }

  /** Requests and streams whose answers are not over. */
  get activeRequests(): number {
    return this.stats.activeRequests;
  }

  set observer(observer: McpObserver | undefined) {
    this.watcher = observer;
    if (this.egress !== undefined) this.egress.observer = observer;
  }

  apply(settings: McpListenerSettings): void {
    this.settings = settings;
    this.tls.apply(settings.tls);
    this.egress?.apply(settings);
  }

  private load(): Promise<McpEgress> {
    this.loading ??= import('../mcp/egress.ts').then(({ McpEgress }) => {
      const egress = new McpEgress(this.settings, this.environment, this.watcher);
      this.egress = egress;
      if (this.isDraining) egress.drain();
      return egress;
    });
    return this.loading;
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    if (this.isDraining) response.setHeader('connection', 'close');
    this.listenerStats.activeCalls++;
    response.once('close', () => this.listenerStats.activeCalls--);
    this.sentAhead.began(request, response);
    if (this.egress !== undefined) this.handle(this.egress, request, response);
    else void this.load().then((egress) => this.handle(egress, request, response));
  }

  private handle(egress: McpEgress, request: IncomingMessage, response: ServerResponse): void {
    try {
      egress.handleRequest(request, response, this.tls.peer(request.socket).isLoopback);
    } catch (error) {
      // The defect fails this request only.
      this.onError(error);
      if (!response.headersSent) response.statusCode = 500;
      response.end();
    }
  }

  /** Those of its certificate; undefined without TLS. */
  get credentials(): Credentials | undefined {
    return this.tls.credentials;
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

/** Stops accepting; requests on its connections finish, and idle connections close. */
function leave(server: HttpServer | undefined): void {
  server?.close();
  server?.closeIdleConnections();
}
