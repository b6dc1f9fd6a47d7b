/** The keepalive of the connections to one endpoint. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import { Keepalive } from '../../grpc/keepalive.ts';
import type { Connection } from '../../http2/connection.ts';

/** The slowest keepalive that we learn, two hours: no server counts PINGs that are so rare. */
const MAX_LEARNED_MS = 7_200_000;

/** The keepalive of one endpoint's connections, and the interval learned from its `too_many_pings` (gRFC A8). */
export class PoolKeepalive {
  private readonly clocks = new Map<Connection, Keepalive>();
  private readonly wheel: TimerWheel;
  /** Twice the interval that the peer has rejected with `too_many_pings`. */
  private learnedMs = 0;

  constructor(wheel: TimerWheel) {
    this.wheel = wheel;
  }

  /** Returns the silence after which we send a PING, when `configuredMs` is configured; 0 is off. */
  timeMs(configuredMs: number): number {
    return configuredMs === 0 ? 0 : Math.max(configuredMs, this.learnedMs);
  }

  start(connection: Connection, options: { readonly timeMs: number; readonly timeoutMs: number }): void {
    const clock = new Keepalive(connection, this.wheel, {
      timeMs: this.timeMs(options.timeMs),
      timeoutMs: options.timeoutMs,
      withoutStreams: false,
    });
    this.clocks.set(connection, clock);
    clock.start();
  }

  stop(connection: Connection): void {
    this.clocks.get(connection)?.stop();
    this.clocks.delete(connection);
  }

  /**
   * The peer rejected the PINGs of this connection as too many. Several such rejections at the same time do not add up: each
   * doubles the interval that its own connection used. All connections change at once.
   *
   * @returns the new interval; undefined when it is not longer than before
   */
  slowDown(connection: Connection, configuredMs: number): number | undefined {
    const askedAfterMs = this.clocks.get(connection)?.askedAfterMs ?? 0;
    const timeMs = Math.min(askedAfterMs * 2, MAX_LEARNED_MS);
    if (timeMs <= this.timeMs(configuredMs)) return undefined;
    this.learnedMs = timeMs;
    for (const clock of this.clocks.values()) clock.slowDown(timeMs);
    return timeMs;
  }
}
