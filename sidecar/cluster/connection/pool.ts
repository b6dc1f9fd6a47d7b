/** The connection pool of one endpoint; `pool-state.ts` draws its states. */
import type { Socket } from 'node:net';
import { Timer } from '../../clock/timer-wheel.ts';
import { step } from '../../errors/illegal-step.ts';
import { GRPC_FIELD_NAMES } from '../../grpc/field-names.ts';
import { refuseForeignClient, refuseForeignServer } from '../../grpc/foreign-peers.ts';
import { answerThatResumes, READ_SIDECAR_SETTINGS } from '../../grpc/sidecar-settings.ts';
import { Connection } from '../../http2/connection.ts';
import type { ConnectionOwner } from '../../http2/connection-owner.ts';
import { ConnectionError } from '../../http2/errors.ts';
import { ErrorCode, errorName } from '../../http2/frame.ts';
import { printable, tlsErrorOf } from '../../tls/failure.ts';
import { causeOf, connectTimeout } from './connect-failure.ts';
import { PoolKeepalive } from './keepalive.ts';
import { POOL_ARROWS, PoolState } from './pool-state.ts';
import type { ConnectionWaiter, PoolEnvironment, PoolListener, PoolOptions } from './pool-types.ts';
import { ReconnectSchedule } from './reconnect.ts';
import { freshCount, isReset, isSpent, isWorn } from './worn-connections.ts';

/** A connection that closes sooner, without a single stream, counts as a failed connection attempt. */
const UNUSED_LIFE_MS = 1_000;

/** The reason to leave a connection when the cluster's way to connect has changed. */
const REPLACED = 'replaced';

/**
 * The connections to one endpoint. The pool opens one for the first call, and another when all have reached the peer's
 * limit of streams. After a failure it connects again by itself, after the back-off, so that no call has to discover that
 * the endpoint is still dead.
 */
export class ConnectionPool extends Timer implements ConnectionOwner<Connection> {
  readonly onForeignServer = refuseForeignServer;
  readonly onForeignClient = refuseForeignClient;
  private readonly address: string;
  private readonly environment: PoolEnvironment;
  private readonly listener: PoolListener;
  private options: PoolOptions;
  private readonly ready: Connection[] = [];
  private readonly keepalive: PoolKeepalive;
  private readonly waiters = new Set<ConnectionWaiter>();
  private connecting: Connection | undefined = undefined;
  private connectStartedAtMs = Number.NEGATIVE_INFINITY;
  readonly schedule = new ReconnectSchedule();
  /** There are connections, but the peer allows no stream on any (SETTINGS_MAX_CONCURRENT_STREAMS is 0). */
  shut = false;
  state: PoolState = PoolState.idle;
  lastFailure = '';

  constructor(address: string, options: PoolOptions, environment: PoolEnvironment, listener: PoolListener) {
    super();
    this.address = address;
    this.options = options;
    this.environment = environment;
    this.listener = listener;
    this.keepalive = new PoolKeepalive(environment.wheel);
  }

  update(options: PoolOptions): void {
    this.options = options;
  }

  private get closed(): boolean {
    return this.state === PoolState.closed;
  }

  get connectionCount(): number {
    return this.ready.length;
  }

  get pendingCount(): number {
    return this.waiters.size;
  }

  /** The silence after which we send a PING: as configured, or longer after `too_many_pings`; 0 is off. */
  get keepaliveTimeMs(): number {
    return this.keepalive.timeMs(this.options.keepalive.timeMs);
  }

  get connections(): readonly Connection[] {
    return this.ready;
  }

  /** A call would have to wait until others end: the pool can open no more connections, or the peer allows no stream. */
  get full(): boolean {
    if (this.shut) return true;
    if (this.waiters.size === 0 || this.connecting !== undefined) return false;
    return this.armed || this.ready.length >= this.options.maxConnections;
  }

  /** Whether a call that finds no usable endpoint may use this one despite its back-off. */
  mayPanic(nowMs: number): boolean {
    return this.connecting !== undefined || nowMs >= this.schedule.wantedAtMs;
  }

  /** Returns a connection with a free stream, or undefined: then it calls the waiter later, once, unless that is cancelled. */
  acquire(waiter: ConnectionWaiter): Connection | undefined {
    const connection = this.withCapacity();
    if (connection !== undefined) return connection;
    if (this.closed) {
      waiter.onNoConnection('connect_failed', `${this.address} is no longer part of the cluster`);
      return undefined;
    }
    const overflow = this.waiters.size >= this.options.maxPendingCalls;
    if (!overflow) this.waiters.add(waiter);
    // Connect even for a call that may not wait, so that the next one finds a connection.
    this.connectForMore();
    if (overflow) {
      waiter.onNoConnection('pending_overflow', `${this.waiters.size} calls already wait for a connection`);
    }
    return undefined;
  }

  /** Opens one more connection, if the limit allows. A back-off does not delay the first one: see `pick`. */
  private connectForMore(): void {
    if (this.connecting !== undefined || this.closed) return;
    // Connections that allow no streams do not count against the limit: they may never allow any again.
    if (!this.takesStreams || (freshCount(this.ready) < this.options.maxConnections && !this.armed))
      this.connect();
  }

  /** Whether the peer allows streams on any connection. */
  private get takesStreams(): boolean {
    for (const { peer } of this.ready) if (peer.maxConcurrentStreams > 0) return true;
    return false;
  }

  cancel(waiter: ConnectionWaiter): void {
    this.waiters.delete(waiter);
  }

  /** Connects without waiting for a call. */
  warm(): void {
    if (this.ready.length === 0 && this.connecting === undefined && !this.closed) this.connect();
  }

  private withCapacity(): Connection | undefined {
    let best: Connection | undefined;
    let worn: Connection | undefined;
    for (const connection of this.ready) {
      if (isWorn(connection)) worn = connection;
      else if (connection.hasCapacity && (best === undefined || connection.streams.size < best.streams.size))
        best = connection;
    }
    return worn === undefined ? best : this.besideWorn(worn, best);
  }

  /**
   * Uses a worn connection until another is ready, and then shuts it down. Calls wait for the new one only when the worn one
   * is spent, and not at all when no other can be opened.
   */
  private besideWorn(worn: Connection, fresh: Connection | undefined): Connection | undefined {
    if (fresh === undefined) {
      this.connectForMore();
      return this.ready.find((connection) => this.hasRoom(connection));
    }
    if (isReset(worn)) {
      this.forget(worn, 'callers have cancelled too many of its calls', 'cancelled');
      worn.shutdown();
    }
    return fresh;
  }

  private hasRoom(connection: Connection): boolean {
    return connection.hasCapacity && (this.connecting === undefined || !isSpent(connection));
  }

  private connect(): void {
    const { environment, options } = this;
    const nowMs = environment.clock();
    this.connectStartedAtMs = nowMs;
    let socket: Socket;
    try {
      socket = environment.connect(this.address);
    } catch (error) {
      const reason = tlsErrorOf(error)?.reason ?? 'no_socket';
      this.connectFailed(`connecting to ${this.address} failed: ${(error as Error).message}`, reason);
      return;
    }
    this.connecting = new Connection(socket, this, {
      role: 'client',
      limits: environment.limits(),
      clock: environment.clock,
      extension: READ_SIDECAR_SETTINGS,
      knownNames: GRPC_FIELD_NAMES,
    });
    environment.wheel.arm(this, nowMs + options.connectTimeoutMs);
    this.setState(
      this.takesStreams
        ? PoolState.ready
        : this.state === PoolState.backingOff
          ? this.state
          : PoolState.connecting,
    );
  }

  /** The connect timeout, or the end of a back-off. */
  override onTimeout(): void {
    const connecting = this.connecting;
    if (connecting === undefined) {
      if (!this.takesStreams || this.waiters.size > 0) this.connect();
      return;
    }
    connecting.close(connectTimeout(connecting, this.address, this.options.connectTimeoutMs));
    connecting.socket.destroy();
  }

  private connectFailed(message: string, reason: string): void {
    this.connecting = undefined;
    this.lastFailure = message;
    if (this.closed) return;
    const { clock, random, wheel } = this.environment;
    this.schedule.failed(this.connectStartedAtMs, random());
    wheel.arm(this, Math.max(this.schedule.dueAtMs, clock() + 1));
    if (!this.takesStreams) {
      this.shut = this.ready.length > 0;
      this.setState(PoolState.backingOff);
      this.failWaiters(message);
    } else for (const connection of [...this.ready]) this.onCapacity(connection);
    this.listener.onConnectFailed(message, reason);
  }

  private failWaiters(message: string): void {
    for (const waiter of [...this.waiters]) {
      if (this.waiters.delete(waiter)) waiter.onNoConnection('connect_failed', message);
    }
  }

  /** A connection that allows no streams counts as still connecting: it has the connect timeout to allow some. */
  onReady(connection: Connection): void {
    if (connection !== this.connecting) return;
    if (connection.peer.maxConcurrentStreams === 0) {
      this.updateShut();
      return;
    }
    this.connecting = undefined;
    this.ready.push(connection);
    answerThatResumes(connection);
    this.keepalive.start(connection, this.options.keepalive);
    this.onTaking(connection);
  }

  /** A connection allows streams: a new one, or one that allowed none before. */
  private onTaking(connection: Connection): void {
    this.schedule.succeeded();
    this.lastFailure = '';
    this.shut = false;
    if (this.connecting === undefined) this.environment.wheel.cancel(this);
    this.setState(PoolState.ready);
    this.serve(connection);
  }

  onPeerSettings(connection: Connection, before: number): void {
    const now = connection.peer.maxConcurrentStreams;
    if (connection === this.connecting) this.onReady(connection);
    else if (!this.ready.includes(connection)) return;
    else if (now > before && (this.shut || this.state === PoolState.backingOff)) this.onTaking(connection);
    else if (now >= before) this.onCapacity(connection);
    else {
      if (this.waiters.size > 0) this.connectForMore();
      this.updateShut();
    }
  }

  /** The peer allows fewer streams, or none. Waiting calls move to other endpoints that have room. */
  private updateShut(): void {
    this.shut = !this.takesStreams && (this.ready.length > 0 || this.connecting?.ready === true);
    if (!this.full) return;
    const message = this.shut
      ? `${this.address} takes no calls: its SETTINGS_MAX_CONCURRENT_STREAMS is 0`
      : `${this.address} takes fewer calls than before: it has lowered its SETTINGS_MAX_CONCURRENT_STREAMS`;
    for (const waiter of [...this.waiters]) {
      // Delete and add again, so that the remaining waiters keep their order.
      if (!this.waiters.delete(waiter)) continue;
      if (waiter.onNoStreams?.(message) !== true) this.waiters.add(waiter);
    }
  }

  onCapacity(connection: Connection): void {
    if (this.waiters.size > 0) this.serve(connection);
  }

  private serve(connection: Connection): void {
    for (const waiter of this.waiters) {
      if (!this.hasRoom(connection)) break;
      this.waiters.delete(waiter);
      waiter.onConnection(connection);
    }
    // More calls wait than the peer allows streams: open another connection.
    if (this.waiters.size > 0) this.connectForMore();
  }

  onGoaway(connection: Connection, code: number, debug: string): void {
    if (code === ErrorCode.ENHANCE_YOUR_CALM && debug.includes('too_many_pings'))
      this.slowKeepalive(connection);
    const said = debug === '' ? '' : `: ${printable(debug)}`;
    const reason = /^tls_[a-z_]{1,20}(?=:)/.exec(debug)?.[0] ?? 'goaway';
    const message = `${this.address} sent GOAWAY (${errorName(code)}) before it took a call${said}`;
    // Its streams continue, and so does its keepalive.
    if (connection !== this.connecting) this.forget(connection, message, reason);
    else
      connection.close(
        new ConnectionError(
          'peer',
          code,
          `it sent GOAWAY (${errorName(code)}) before it took a call${said}`,
          reason,
        ),
      );
  }

  onFaulty(connection: Connection): void {
    this.forget(connection, `${this.address} violated HTTP/2 on too many streams`, 'protocol_error');
    connection.shutdown();
  }

  private slowKeepalive(connection: Connection): void {
    const timeMs = this.keepalive.slowDown(connection, this.options.keepalive.timeMs);
    if (timeMs !== undefined) this.listener.onTooManyPings?.(timeMs);
  }

  onClosed(connection: Connection, error: ConnectionError): void {
    if (connection === this.connecting) {
      this.environment.wheel.cancel(this);
      const { message, reason } = causeOf(error);
      this.connectFailed(`connecting to ${this.address} failed: ${message}`, reason);
      return;
    }
    this.keepalive.stop(connection);
    const { message, reason } = causeOf(error);
    this.forget(
      connection,
      `${this.address} closed the connection before it took a call: ${message}`,
      reason,
    );
  }

  onStream(): void {
    // A client accepts no streams: push is off, and the connection treats a pushed stream as an error.
  }

  /** Opens no new streams on this connection. One that never had any counts as a failure, so the pool backs off. */
  private forget(connection: Connection, message: string, reason: string): void {
    const at = this.ready.indexOf(connection);
    if (at < 0) return;
    this.ready.splice(at, 1);
    if (this.closed) return;
    const lifeMs = this.environment.clock() - this.connectStartedAtMs;
    if (
      reason !== REPLACED &&
      connection.nextStreamId === 1 &&
      this.connecting === undefined &&
      lifeMs < UNUSED_LIFE_MS
    ) {
      this.connectFailed(message, reason);
      return;
    }
    this.shut &&= this.ready.length > 0;
    if (this.state === PoolState.ready && !this.takesStreams)
      this.setState(this.connecting === undefined ? PoolState.idle : PoolState.connecting);
    if (this.waiters.size > 0) this.connectForMore();
  }

  /** Sends new calls over new connections; open connections finish their calls. */
  renew(): void {
    for (const connection of [...this.ready]) {
      this.forget(connection, 'the cluster replaces it', REPLACED);
      connection.shutdown();
    }
    this.connecting?.close(
      new ConnectionError('local', ErrorCode.NO_ERROR, 'the cluster replaces it', REPLACED),
    );
    this.schedule.succeeded();
    // A connection that failed before may succeed now: the next call tries.
    if (this.state !== PoolState.backingOff || this.closed) return;
    this.environment.wheel.cancel(this);
    this.setState(PoolState.idle);
  }

  private setState(state: PoolState): void {
    if (state === this.state || this.closed) return;
    this.state = step(POOL_ARROWS, this.state, state);
    this.listener.onStateChange();
  }

  /** Lets calls finish and closes. Waiting calls fail. */
  close(): void {
    if (this.closed) return;
    // The listener learns nothing of it: the endpoint is removed already.
    this.state = step(POOL_ARROWS, this.state, PoolState.closed);
    this.environment.wheel.cancel(this);
    this.connecting?.close(
      new ConnectionError('local', ErrorCode.NO_ERROR, 'the endpoint is no longer part of the cluster'),
    );
    this.failWaiters('the endpoint is no longer part of the cluster');
    for (const connection of [...this.ready]) connection.shutdown();
  }
}
