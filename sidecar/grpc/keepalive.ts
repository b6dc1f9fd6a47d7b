/** Keepalive of HTTP/2 connections (gRFC A8, A9). */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import type { Connection } from '../http2/connection.ts';
import { ConnectionError } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import { welcomePingIntervalMs } from './sidecar-settings.ts';

export interface KeepaliveOptions {
  /** The silence after which a PING tests the peer; 0 is off. */
  readonly timeMs: number;
  /** The time limit for the answer. */
  readonly timeoutMs: number;
  /** Whether a connection without streams also sends PINGs. */
  readonly withoutStreams: boolean;
}

/** The interval that servers with the default enforcement of gRFC A8 accept between PINGs without data. */
const POLITE_INTERVAL_MS = 300_000;
const POLITE_PINGS = 2;

/**
 * Finds dead peers (gRFC A8, A9): sends a PING after `timeMs` of silence, and closes the connection if no byte arrives
 * within `timeoutMs`. An agent may be silent for minutes while its model works, and a strict server answers the fourth
 * PING without data with GOAWAY `too_many_pings`, which would end the call that the PINGs protect. So a client sends
 * two PINGs and then one every five minutes, unless its peer has announced how often PINGs are welcome, as another
 * sidecar does. Clients count no PINGs, so this limit does not apply to a server.
 *
 *     listening ──silent for timeMs──▶ asking ──any byte──▶ listening
 *                                        └──timeoutMs──▶ connection closed
 */
export class Keepalive extends Timer {
  private readonly connection: Connection;
  private readonly wheel: TimerWheel;
  private readonly options: KeepaliveOptions;
  /** The silence before a PING: `timeMs`, or longer if the peer demands it. */
  timeMs: number;
  /** The value of `timeMs` at the latest PING; 0 before the first. */
  askedAfterMs = 0;
  private askedAtMs = 0;
  private asking = false;
  private pingsWithoutData = 0;
  private progressSeen = 0;

  constructor(connection: Connection, wheel: TimerWheel, options: KeepaliveOptions) {
    super();
    this.connection = connection;
    this.wheel = wheel;
    this.options = options;
    this.timeMs = options.timeMs;
  }

  start(): void {
    if (this.timeMs === 0) return;
    this.slowDown(welcomePingIntervalMs(this.connection.peer));
    this.wheel.arm(this, this.connection.lastReadAtMs + this.timeMs);
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  /** Sends PINGs no more often than this from now on. */
  slowDown(timeMs: number): void {
    if (this.timeMs > 0) this.timeMs = Math.max(this.timeMs, timeMs);
  }

  override onTimeout(nowMs: number): void {
    const { connection, wheel, options, timeMs } = this;
    if (connection.closed) return;
    if (this.asking) {
      this.asking = false;
      if (connection.lastReadAtMs < this.askedAtMs) {
        const message = `no answer to a keepalive PING within ${options.timeoutMs} ms`;
        connection.close(new ConnectionError('network', ErrorCode.NO_ERROR, message, 'keepalive'));
        connection.socket.destroy();
        return;
      }
    }
    if (connection.streams.size === 0 && !options.withoutStreams) {
      wheel.arm(this, nowMs + timeMs);
      return;
    }
    const dueAtMs = connection.lastReadAtMs + timeMs;
    if (nowMs < dueAtMs) {
      wheel.arm(this, dueAtMs);
      return;
    }
    if (connection.receiver.progress !== this.progressSeen) {
      this.progressSeen = connection.receiver.progress;
      this.pingsWithoutData = 0;
    }
    const counted = connection.role === 'client' && welcomePingIntervalMs(connection.peer) === 0;
    if (counted && this.pingsWithoutData >= POLITE_PINGS) {
      const nextAtMs = this.askedAtMs + POLITE_INTERVAL_MS;
      if (nowMs < nextAtMs) {
        // Checks again before that time: data in the meantime allows PINGs again.
        wheel.arm(this, Math.min(nextAtMs, nowMs + timeMs));
        return;
      }
    }
    this.pingsWithoutData++;
    this.asking = true;
    this.askedAtMs = nowMs;
    this.askedAfterMs = timeMs;
    connection.control.ping(() => {});
    wheel.arm(this, nowMs + options.timeoutMs);
  }
}
