/** The types at a connection pool's boundary: its settings, its waiters and its listeners. */
import type { Socket } from 'node:net';
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Connection } from '../../http2/connection.ts';
import type { ConnectionLimits } from '../../http2/limits.ts';

/** An attempt that waits for a stream. */
export interface ConnectionWaiter {
  /** There is room on this connection: open a stream now. */
  onConnection(connection: Connection): void;
  /** None can be had; nothing of the call has been sent. */
  onNoConnection(reason: 'connect_failed' | 'pending_overflow', message: string): void;
  /**
   * It waits, and there may be no stream for a long time: the peer has lowered its limit. True: it waits no longer, for it
   * has gone elsewhere.
   */
  onNoStreams?(message: string): boolean;
}

export interface PoolOptions {
  readonly connectTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxPendingCalls: number;
  readonly keepalive: { readonly timeMs: number; readonly timeoutMs: number };
}

/** Time, timers and sockets that a pool takes as arguments. */
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
