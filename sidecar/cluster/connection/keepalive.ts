import type { TimerWheel } from '../../clock/timer-wheel.ts';
import { Keepalive } from '../../grpc/keepalive.ts';
import type { Connection } from '../../http2/connection.ts';

/** Keepalive is not slowed down beyond this: no server counts PINGs that come so seldom. */
const MAX_LEARNED_MS = 7_200_000;

/** The keepalive clocks of one endpoint's connections, and what it has said of our PINGs (gRFC A8). */
export class PoolKeepalive {
  private readonly clocks = new Map<Connection, Keepalive>();
  private readonly wheel: TimerWheel;
  /** Twice what the peer has called `too_many_pings`. */
  private learnedMs = 0;

  constructor(wheel: TimerWheel) {
    this.wheel = wheel;
  }

  /** The silence after which a peer is asked, where `configuredMs` is configured; 0 is off. */
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
   * This connection was told that its PINGs are too many. Several that are told at the same time do not add up: it goes by
   * what each did. The others follow at once.
   *
   * @returns the time from now on; undefined when it is no longer than before
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
