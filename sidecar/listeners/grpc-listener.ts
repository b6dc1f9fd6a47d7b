/** Accepts gRPC connections, over TLS or plain text, for the inbound and the outbound side. */
import { createServer, type Server, type Socket } from 'node:net';
import { step } from '../errors/illegal-step.ts';
import { GRPC_FIELD_NAMES } from '../grpc/field-names.ts';
import { refuseForeignClient, refuseForeignServer } from '../grpc/foreign-peers.ts';
import { Keepalive } from '../grpc/keepalive.ts';
import { PingGuard } from '../grpc/ping-guard.ts';
import { announceSidecar } from '../grpc/sidecar-settings.ts';
import { Connection } from '../http2/connection.ts';
import type { ConnectionOwner } from '../http2/connection-owner.ts';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { OnBehalf, PeerIdentity } from '../http2/peer-identity.ts';
import { readShared } from '../http2/shared-read.ts';
import type { Stream } from '../http2/streams.ts';
import { parseAddress } from '../net/address.ts';
import { Call } from '../proxy/call.ts';
import { addressOf, Callers } from '../proxy/caller.ts';
import { endForShutdown } from '../proxy/early-end.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import { NOBODY } from '../tls/credentials.ts';
import type { TlsError } from '../tls/failure.ts';
import { Lifetime, PREFACE_TIMEOUT_MS } from './connection-lifetime.ts';
import { type ConnectionPlace, ConnectionPlaces, NO_PLACE } from './connection-places.ts';
import {
  type GrpcListenerEnvironment,
  type GrpcListenerOptions,
  mostSockets,
  placesOf,
} from './grpc-listener-options.ts';
import { listenOn, listenOnLoopback } from './listen.ts';
import type { TlsAcceptorSettings } from './listener-settings.ts';
import { LISTENER_ARROWS, type ListenerState } from './listener-state.ts';
import { TlsAcceptor } from './tls-acceptor.ts';

/** The caller of all calls on behalf of callers that nothing identifies. */
const UNNAMED = 'callers of this process';
/** How long the PING of a graceful GOAWAY may take. */
const GOAWAY_PING_TIMEOUT_MS = 1_000;

/** A listener that has opened a second address. The caller must call one of the two methods. */
export interface Move {
  /** With the port the system chose for port 0. */
  readonly address: string;
  /** Keeps the new address and closes the old one, whose connections finish their calls. */
  commit(): void;
  /** Closes the new address. */
  cancel(): void;
}

/** Receives the calls of a listener: the pipeline, or what directs calls before it. */
export interface CallAcceptor {
  acceptRequest(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void;
}

/** Accepts gRPC connections on one address and passes their calls to a pipeline. */
export class GrpcListener implements ConnectionOwner<Connection> {
  readonly onForeignClient = refuseForeignClient;
  readonly onForeignServer = refuseForeignServer;
  readonly name: string;
  private readonly acceptor: CallAcceptor;
  private readonly stats: ListenerStats;
  private readonly environment: GrpcListenerEnvironment;
  private options: GrpcListenerOptions;
  private readonly lifetimes = new Map<Connection, Lifetime>();
  private readonly places: ConnectionPlaces;
  private readonly callers = new Callers();
  private state: ListenerState = 'starting';
  private server: Server | undefined = undefined;
  /** The second server, on [::1], of each server that listens on 127.0.0.1 for `localhost`. */
  private readonly seconds = new WeakMap<Server, Server>();
  /** Undefined when every client may connect in plain text. */
  tlsAcceptor: TlsAcceptor | undefined = undefined;
  /** The address it listens on, with the port the system chose for port 0. */
  address = '';

  constructor(
    name: string,
    acceptor: CallAcceptor,
    stats: ListenerStats,
    environment: GrpcListenerEnvironment,
    options: GrpcListenerOptions,
  ) {
    this.name = name;
    this.acceptor = acceptor;
    this.stats = stats;
    this.environment = environment;
    this.options = options;
    this.places = new ConnectionPlaces(placesOf(options));
  }

  /** Applies new options to new connections. */
  update(options: GrpcListenerOptions): void {
    this.options = options;
    this.places.limit = placesOf(options);
    if (this.server === undefined) return;
    this.server.maxConnections = mostSockets(options);
    const second = this.seconds.get(this.server);
    if (second !== undefined) second.maxConnections = mostSockets(options);
  }

  /**
   * Accepts new connections over TLS with these settings, or in plain text without any. Open connections that these settings
   * would refuse get a graceful GOAWAY.
   */
  secure(settings: TlsAcceptorSettings | undefined): void {
    if (JSON.stringify(settings) === JSON.stringify(this.tlsAcceptor?.settings)) return;
    this.tlsAcceptor?.close();
    this.tlsAcceptor =
      settings &&
      new TlsAcceptor(settings, this.environment.certificates ?? NOBODY, {
        onRefused: (error) => this.refused(error),
      });
    for (const connection of [...this.lifetimes.keys()])
      if (
        connection.onBehalf === undefined &&
        this.tlsAcceptor?.admits(connection.scheme, connection.identity) === false
      )
        this.shutdown(connection);
  }

  private refused(error: TlsError): void {
    this.stats.reject(error.reason);
    const refusal = new ConnectionError(
      'peer',
      ErrorCode.INADEQUATE_SECURITY,
      error.message,
      error.reason,
      error,
    );
    this.environment.onConnectionError(this.name, refusal);
  }

  /** @returns the address it listens on, with the port the system chose for port 0. Throws ListenError. */
  async listen(address: string): Promise<string> {
    const move = await this.open(address);
    move.commit();
    this.state = step(LISTENER_ARROWS, this.state, 'listening');
    return move.address;
  }

  /** Listens on a second address; the returned move commits or cancels the change. Throws ListenError. */
  async open(address: string): Promise<Move> {
    const server = this.serverFor(() => server);
    const bound = await this.listenWith(server, address);
    const leave = (left: Server | undefined): void => {
      this.closeServer(left);
      for (const [connection, lifetime] of [...this.lifetimes])
        if (left !== undefined && lifetime.server === left) this.shutdown(connection);
    };
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

  private serverFor(counted: () => Server): Server {
    const server = createServer({ noDelay: true }, (socket) => this.acceptSocket(socket, counted()));
    server.maxConnections = mostSockets(this.options);
    server.on('drop', () => this.stats.reject('too_many_connections'));
    return server;
  }

  /** `localhost` means both loopback addresses: a pod's IPv6 traffic is redirected to [::1]. */
  private listenWith(server: Server, address: string): Promise<string> {
    const setting = `${this.name}.listen`;
    const onAcceptError = (error: Error): void => {
      const failure = new ConnectionError(
        'local',
        ErrorCode.INTERNAL_ERROR,
        error.message,
        'accept_failed',
        error,
      );
      this.stats.reject(failure.reason);
      this.environment.onConnectionError(this.name, failure);
    };
    const where = parseAddress(address, { forListening: true });
    if (where.kind === 'unix' || where.host !== 'localhost')
      return listenOn(server, address, setting, onAcceptError);
    const second = this.serverFor(() => server);
    this.seconds.set(server, second);
    return listenOnLoopback(server, second, where.port, setting, onAcceptError);
  }

  private closeServer(server: Server | undefined): void {
    if (server === undefined) return;
    server.close();
    this.seconds.get(server)?.close();
  }

  protected acceptSocket(socket: Socket, server: Server): void {
    const place = this.placeFor(socket);
    if (place === undefined) {
      this.stats.reject('too_many_connections');
      socket.destroy();
      return;
    }
    // Release the place also when the TLS handshake fails.
    socket.once('close', () => this.places.release(place));
    const { tlsAcceptor } = this;
    if (tlsAcceptor === undefined) {
      readShared(socket);
      this.begin(socket, undefined, server, place);
    } else
      tlsAcceptor.acceptHandshake(socket, (secured, identity) =>
        this.begin(secured, identity, server, place),
      );
  }

  /**
   * Serves a connection that this process has made to itself (`net/socket-pair.ts`), for calls that it makes on behalf of
   * others. They count as calls of `identity`, and their scope is what `onBehalf` says. Such a connection takes no place and
   * has no maximum age; a drain asks it to end, as it asks all.
   */
  adopt(socket: Socket, identity: PeerIdentity | undefined, onBehalf: OnBehalf): void {
    if (!this.isListening) {
      socket.destroy();
      return;
    }
    readShared(socket);
    this.begin(socket, identity, undefined, NO_PLACE, onBehalf);
  }

  /** Takes a place. When none is free, it may close an idle connection. */
  private placeFor(socket: Socket): ConnectionPlace | undefined {
    const { places } = this;
    const address = addressOf(socket);
    const free = places.take(address);
    if (free !== undefined) return free;
    const idle = places.idlest(this.lifetimes.values(), address);
    if (idle === undefined) return undefined;
    const place = places.takeOver(idle.place, address);
    this.stats.reject('too_many_connections');
    idle.makeRoom();
    return place;
  }

  private begin(
    socket: Socket,
    identity: PeerIdentity | undefined,
    server: Server | undefined,
    place: ConnectionPlace,
    onBehalf?: OnBehalf,
  ): void {
    const { wheel, clock } = this.environment;
    const { keepalive: keepaliveOptions, limits, minPingIntervalMs } = this.options;
    const connection = new Connection(socket, this, {
      role: 'server',
      clock,
      limits,
      pings: new PingGuard(minPingIntervalMs),
      extension: announceSidecar(this.options),
      knownNames: GRPC_FIELD_NAMES,
    });
    connection.identity = identity;
    connection.onBehalf = onBehalf;
    const caller = this.callers.arrive(identity?.name ?? (onBehalf === undefined ? place.name : UNNAMED));
    connection.caller = caller;
    heldRequests.join(connection.held, caller.name);
    const keepalive = new Keepalive(connection, wheel, { ...keepaliveOptions, withoutStreams: true });
    const lifetime = new Lifetime(connection, keepalive, server, place, caller, () =>
      this.shutdown(connection),
    );
    this.lifetimes.set(connection, lifetime);
    this.stats.activeConnections++;
    wheel.arm(lifetime, clock() + PREFACE_TIMEOUT_MS);
  }

  onReady(connection: Connection): void {
    const { wheel, clock, random } = this.environment;
    const lifetime = this.lifetimes.get(connection);
    if (lifetime === undefined) return;
    // It ends with this process: nothing on the way can lose it.
    if (connection.onBehalf === undefined) lifetime.keepalive.start();
    if (lifetime.onReady() === 'leaving') {
      this.shutdown(connection);
      return;
    }
    const ageMs = this.options.maxConnectionAgeMs;
    if (ageMs > 0 && connection.onBehalf === undefined)
      wheel.arm(lifetime, clock() + ageMs * (0.9 + 0.2 * random()));
    else wheel.cancel(lifetime);
  }

  onStream(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    this.acceptor.acceptRequest(stream, list, head, endStream);
  }

  onMalformedRequest(): void {
    this.stats.reject('bad_request');
  }

  onStreamRefused(): void {
    this.stats.reject('too_many_streams');
  }

  onCapacity(): void {
    // A server opens no streams, so it never waits for capacity.
  }

  onGoaway(): void {
    // The client opens no more calls; its present calls finish.
  }

  onClosed(connection: Connection, error: ConnectionError): void {
    const lifetime = this.lifetimes.get(connection);
    if (lifetime === undefined) return;
    heldRequests.leave(connection.held);
    this.lifetimes.delete(connection);
    this.places.release(lifetime.place);
    this.callers.leave(lifetime.caller);
    this.environment.wheel.cancel(lifetime);
    lifetime.keepalive.stop();
    this.stats.activeConnections--;
    if (error.code === ErrorCode.NO_ERROR && error.source !== 'peer') return;
    this.stats.reject(error.reason);
    this.environment.onConnectionError(this.name, error);
  }

  private shutdown(connection: Connection): void {
    const { wheel, clock } = this.environment;
    const lifetime = this.lifetimes.get(connection);
    if (!connection.ready) {
      // GOAWAY must not come before SETTINGS (RFC 9113 §3.4).
      lifetime?.leaveWhenReady();
      return;
    }
    connection.shutdown();
    if (lifetime === undefined || connection.closed) return;
    lifetime.goAway();
    wheel.arm(lifetime, clock() + GOAWAY_PING_TIMEOUT_MS);
  }

  /** Stops accepting connections; open connections stay. */
  stopAccepting(): void {
    this.closeServer(this.server);
    this.server = undefined;
    if (this.state === 'starting' || this.state === 'listening')
      this.state = step(LISTENER_ARROWS, this.state, 'draining');
  }

  /** Asks every downstream to reconnect; calls in flight and in transit finish. */
  renew(): void {
    for (const connection of [...this.lifetimes.keys()]) this.shutdown(connection);
  }

  /** Sends GOAWAY on every connection: calls in flight and in transit finish. */
  drain(): void {
    this.tlsAcceptor?.closeAllWaiting();
    for (const connection of [...this.lifetimes.keys()]) {
      if (connection.ready) this.shutdown(connection);
      else connection.close(new ConnectionError('local', ErrorCode.NO_ERROR, 'draining'));
    }
  }

  /** True from `listen` to `stopAccepting`, unless the server has closed by itself. */
  get isListening(): boolean {
    return this.state === 'listening' && this.server?.listening === true;
  }

  get connectionCount(): number {
    return this.lifetimes.size;
  }

  /** The calls of the open connections (of that name), in no particular order. No call may begin or end meanwhile. */
  *calls(name?: string): Generator<Call> {
    for (const connection of this.lifetimes.keys()) {
      if (name !== undefined && connection.name !== name) continue;
      for (const { handler } of connection.streams) if (handler instanceof Call) yield handler;
    }
  }

  /** The time to drain is over: ends the remaining calls with `draining`. */
  endCalls(): void {
    if (this.state === 'draining') this.state = step(LISTENER_ARROWS, this.state, 'closed');
    this.tlsAcceptor?.close();
    for (const connection of [...this.lifetimes.keys()]) {
      for (const stream of connection.streams.all()) {
        if (stream.handler instanceof Call) endForShutdown(stream.handler);
      }
      connection.close(new ConnectionError('local', ErrorCode.NO_ERROR, 'drained'));
    }
  }
}
