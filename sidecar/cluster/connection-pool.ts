import type { Socket } from 'node:net';
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { Connection } from '../http2/connection.ts';
import type { ConnectionOwner } from '../http2/connection-owner.ts';
import { ConnectionError } from '../http2/errors.ts';
import { SILENT_SERVER_HINT } from '../http2/foreign.ts';
import { ErrorCode, errorName } from '../http2/frame.ts';
import { Keepalive } from '../http2/keepalive.ts';
import type { ConnectionLimits } from '../http2/limits.ts';
import { printable, tlsErrorOf } from '../tls/failure.ts';
import { ReconnectSchedule } from './backoff.ts';

/** An attempt that waits for a stream. */
export interface ConnectionWaiter {
  /** There is room on this connection: open a stream now. */
  onConnection(connection: Connection): void;
  /** None can be had; nothing of the call has been sent. */
  onNoConnection(reason: 'connect_failed' | 'pending_overflow', message: string): void;
}

export interface PoolOptions {
  readonly connectTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxPendingCalls: number;
  readonly keepalive: { readonly timeMs: number; readonly timeoutMs: number };
}

/** What a pool takes from its surroundings. */
export interface PoolEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** For the next connection. */
  limits(): ConnectionLimits;
  connect(address: string): Socket;
}

export interface PoolListener {
  onStateChange(): void;
  /** @param reason a short word for counters */
  onConnectFailed(message: string, reason: string): void;
  /** The peer finds our keepalive PINGs too many, and is asked less often from now on. */
  onTooManyPings?(keepaliveTimeMs: number): void;
}

/**
 *     idle ──first call──▶ connecting ──SETTINGS came──▶ ready ──last connection gone──▶ idle
 *                           ▲      │ refused, timed out
 *                           │      ▼
 *                           └── backingOff    (1 s × 1.6 up to 120 s, jitter 0.2)
 */
export const PoolState = {
  idle: 'idle',
  connecting: 'connecting',
  ready: 'ready',
  backingOff: 'backingOff',
} as const;
export type PoolState = (typeof PoolState)[keyof typeof PoolState];

/** A connection that ends sooner, without having had a stream, has failed as one that was never made. */
const UNUSED_LIFE_MS = 1_000;
/** Keepalive is not slowed down beyond this: no server counts PINGs that come so seldom. */
const MAX_LEARNED_KEEPALIVE_MS = 7_200_000;

/** Why a connection is left whose cluster connects in another way from now on. */
const REPLACED = 'replaced';

/**
 * Callers that cancel make us reset streams, and servers end a connection that resets too many (nghttp2 at 1,000):
 * with it the calls of others, who share it. One that has reset this many takes no new calls.
 */
const RESETS_MAX = 300;

/**
 * The connections to one endpoint. One is made for the first call, another when all are at the peer's limit of
 * streams. After a failure the pool tries again by itself, behind the back-off: no call has to find out that the
 * endpoint is still dead.
 */
export class ConnectionPool extends Timer implements ConnectionOwner {
  private readonly address: string;
  private readonly environment: PoolEnvironment;
  private readonly listener: PoolListener;
  private options: PoolOptions;
  private readonly ready: Connection[] = [];
  private readonly keepalives = new Map<Connection, Keepalive>();
  private readonly waiters = new Set<ConnectionWaiter>();
  private connecting: Connection | undefined = undefined;
  private connectStartedAtMs = Number.NEGATIVE_INFINITY;
  private readonly schedule = new ReconnectSchedule();
  private closed = false;
  /** Twice what the peer has called `too_many_pings` (gRFC A8). */
  private learnedKeepaliveMs = 0;
  state: PoolState = PoolState.idle;
  lastFailure = '';

  constructor(address: string, options: PoolOptions, environment: PoolEnvironment, listener: PoolListener) {
    super();
    this.address = address;
    this.options = options;
    this.environment = environment;
    this.listener = listener;
  }

  update(options: PoolOptions): void {
    this.options = options;
  }

  get connectionCount(): number {
    return this.ready.length;
  }

  get pendingCount(): number {
    return this.waiters.size;
  }

  /** The silence after which the peer is asked for a sign of life: as configured, or longer by its own wish; 0 is off. */
  get keepaliveTimeMs(): number {
    const { timeMs } = this.options.keepalive;
    return timeMs === 0 ? 0 : Math.max(timeMs, this.learnedKeepaliveMs);
  }

  get connections(): readonly Connection[] {
    return this.ready;
  }

  /** Whether a call that finds no usable endpoint may try this one in spite of its back-off. */
  mayPanic(nowMs: number): boolean {
    return this.connecting !== undefined || nowMs >= this.schedule.wantedAtMs;
  }

  /** A connection with room, or undefined: then the waiter is called later, once, unless it is cancelled. */
  acquire(waiter: ConnectionWaiter): Connection | undefined {
    const connection = this.withCapacity();
    if (connection !== undefined) return connection;
    if (this.closed) {
      waiter.onNoConnection('connect_failed', `${this.address} is no longer part of the cluster`);
      return undefined;
    }
    const overflow = this.waiters.size >= this.options.maxPendingCalls;
    if (!overflow) this.waiters.add(waiter);
    // Also for a call that may not wait: the next one shall find a connection.
    this.connectForMore();
    if (overflow) {
      waiter.onNoConnection('pending_overflow', `${this.waiters.size} calls already wait for a connection`);
    }
    return undefined;
  }

  /** Makes one more connection, if there may be one. The first one is not kept waiting by a back-off: see `pick`. */
  private connectForMore(): void {
    const { ready } = this;
    if (this.connecting !== undefined || this.closed) return;
    // A peer that takes no stream on a connection without any would take none on another.
    const refuses = ready.some(({ streams }) => streams.size === 0);
    if (ready.length === 0 || (ready.length < this.options.maxConnections && !refuses && !this.armed))
      this.connect();
  }

  cancel(waiter: ConnectionWaiter): void {
    this.waiters.delete(waiter);
  }

  /** Makes a connection without waiting for a call. */
  warm(): void {
    if (this.ready.length === 0 && this.connecting === undefined && !this.closed) this.connect();
  }

  private withCapacity(): Connection | undefined {
    let best: Connection | undefined;
    let worn: Connection | undefined;
    for (const connection of this.ready) {
      if (connection.resetsSent >= RESETS_MAX) worn = connection;
      else if (connection.hasCapacity && (best === undefined || connection.streams.size < best.streams.size))
        best = connection;
    }
    if (worn !== undefined) {
      this.forget(worn, 'too many of its calls were cancelled', 'cancelled');
      worn.shutdown();
    }
    return best;
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
    });
    environment.wheel.arm(this, nowMs + options.connectTimeoutMs);
    this.setState(
      this.ready.length > 0
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
      if (this.ready.length === 0 || this.waiters.size > 0) this.connect();
      return;
    }
    const within = `within ${this.options.connectTimeoutMs} ms`;
    const message = connecting.socket.connecting
      ? `no connection to ${this.address} ${within}`
      : `no HTTP/2 SETTINGS from ${this.address} ${within}: ${SILENT_SERVER_HINT}`;
    connecting.close(new ConnectionError('network', ErrorCode.NO_ERROR, message, 'connect_timeout'));
    connecting.socket.destroy();
  }

  private connectFailed(message: string, reason: string): void {
    this.connecting = undefined;
    this.lastFailure = message;
    if (this.closed) return;
    const { clock, random, wheel } = this.environment;
    this.schedule.failed(this.connectStartedAtMs, random());
    wheel.arm(this, Math.max(this.schedule.dueAtMs, clock() + 1));
    if (this.ready.length === 0) {
      this.setState(PoolState.backingOff);
      this.failWaiters(message);
    }
    this.listener.onConnectFailed(message, reason);
  }

  private failWaiters(message: string): void {
    for (const waiter of [...this.waiters]) {
      if (this.waiters.delete(waiter)) waiter.onNoConnection('connect_failed', message);
    }
  }

  onReady(connection: Connection): void {
    if (connection !== this.connecting) return;
    const { wheel } = this.environment;
    this.connecting = undefined;
    this.schedule.succeeded();
    this.lastFailure = '';
    wheel.cancel(this);
    this.ready.push(connection);
    const keepalive = new Keepalive(connection, wheel, {
      timeMs: this.keepaliveTimeMs,
      timeoutMs: this.options.keepalive.timeoutMs,
      withoutStreams: false,
    });
    this.keepalives.set(connection, keepalive);
    keepalive.start();
    this.setState(PoolState.ready);
    this.serve(connection);
  }

  onCapacity(connection: Connection): void {
    if (this.waiters.size > 0) this.serve(connection);
  }

  private serve(connection: Connection): void {
    for (const waiter of this.waiters) {
      if (!connection.hasCapacity) break;
      this.waiters.delete(waiter);
      waiter.onConnection(connection);
    }
    // The peer allows fewer streams than are waiting: another connection shares the load.
    if (this.waiters.size > 0) this.connectForMore();
  }

  onGoaway(connection: Connection, code: number, debug: string): void {
    if (code === ErrorCode.ENHANCE_YOUR_CALM && debug.includes('too_many_pings'))
      this.slowKeepalive(connection);
    const said = debug === '' ? '' : `: ${printable(debug)}`;
    const reason = /^tls_[a-z_]{1,20}(?=:)/.exec(debug)?.[0] ?? 'goaway';
    const message = `${this.address} sent GOAWAY (${errorName(code)}) before it took a call${said}`;
    // Its streams go on, and so does its keepalive.
    if (connection !== this.connecting) this.forget(connection, message, reason);
    else
      connection.close(
        new ConnectionError('peer', code, `it sent GOAWAY (${errorName(code)})${said}`, reason),
      );
  }

  /** By what this connection did: several that were told at the same time do not add up. The others follow at once. */
  private slowKeepalive(connection: Connection): void {
    const askedAfterMs = this.keepalives.get(connection)?.askedAfterMs ?? 0;
    const timeMs = Math.min(askedAfterMs * 2, MAX_LEARNED_KEEPALIVE_MS);
    if (timeMs <= this.keepaliveTimeMs) return;
    this.learnedKeepaliveMs = timeMs;
    for (const keepalive of this.keepalives.values()) keepalive.slowDown(timeMs);
    this.listener.onTooManyPings?.(timeMs);
  }

  onClosed(connection: Connection, error: ConnectionError): void {
    if (connection === this.connecting) {
      this.environment.wheel.cancel(this);
      const { message, reason } = causeOf(error);
      this.connectFailed(`connecting to ${this.address} failed: ${message}`, reason);
      return;
    }
    this.keepalives.get(connection)?.stop();
    this.keepalives.delete(connection);
    const { message, reason } = causeOf(error);
    this.forget(
      connection,
      `${this.address} closed the connection before it took a call: ${message}`,
      reason,
    );
  }

  onStream(): void {
    // A client accepts no streams: push is off, and the connection answers it with an error.
  }

  /** No new streams on this connection. One that never had any counts as a failure, or it would be made anew at once. */
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
    if (this.ready.length === 0)
      this.setState(this.connecting === undefined ? PoolState.idle : PoolState.connecting);
    if (this.waiters.size > 0) this.connectForMore();
  }

  /** New calls go on new connections, which are made as from now on; those that are open finish what they have. */
  renew(): void {
    for (const connection of [...this.ready]) {
      this.forget(connection, 'it is replaced', REPLACED);
      connection.shutdown();
    }
    this.connecting?.close(new ConnectionError('local', ErrorCode.NO_ERROR, 'it is replaced', REPLACED));
    this.schedule.succeeded();
    // What failed before may succeed now: the next call finds out.
    if (this.state !== PoolState.backingOff || this.closed) return;
    this.environment.wheel.cancel(this);
    this.setState(PoolState.idle);
  }

  private setState(state: PoolState): void {
    if (state === this.state) return;
    this.state = state;
    this.listener.onStateChange();
  }

  /** Lets calls finish and closes. Waiting ones fail. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.environment.wheel.cancel(this);
    this.connecting?.close(
      new ConnectionError('local', ErrorCode.NO_ERROR, 'the endpoint is no longer wanted'),
    );
    this.failWaiters('the endpoint is no longer part of the cluster');
    for (const connection of [...this.ready]) connection.shutdown();
  }
}

/** What TLS says of the end of a connection, where it was TLS's. */
function causeOf(error: ConnectionError): { message: string; reason: string } {
  const tls = tlsErrorOf(error.cause);
  if (tls === undefined) return error;
  return { message: `${tls.reason}: ${tls.message}`, reason: tls.reason };
}
