/** The types at a connection pool's boundary: its settings, its waiters and its listeners. */
import type { Socket } from 'node:net';
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Connection } from '../../http2/connection.ts';
import type { ConnectionLimits } from '../../http2/limits.ts';

/** An attempt that waits for a stream. */
export interface ConnectionWaiter {
  /** This connection has a free stream: open it now. */
  onConnection(connection: Connection): void;
  /** No connection can be had; nothing of the call has been sent. */
  onNoConnection(reason: 'connect_failed' | 'pending_overflow', message: string): void;
  /**
   * There may be no stream for a long time, because the peer has lowered its limit. Return true if the attempt has moved to
   * another endpoint and waits no longer.
   */
  onNoStreams?(message: string): boolean;
}

export interface PoolOptions {
  readonly connectTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxPendingCalls: number;
  readonly keepalive: { readonly timeMs: number; readonly timeoutMs: number };
}

/** The time, timers and sockets that a pool uses. */
export interface PoolEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  /** The limits of the next connection. */
  limits(): ConnectionLimits;
  connect(address: string): Socket;
}

export interface PoolListener {
  onStateChange(): void;
  /** @param reason a short word for counters */
  onConnectFailed(message: string, reason: string): void;
  /** The peer rejects our keepalive PINGs as too many: we send fewer from now on. */
  onTooManyPings?(keepaliveTimeMs: number): void;
}
