/**
 * Keeps the HTTP/2 connections to one provider: many streams each, until they are old, idle or worn, or their address is gone.
 * Then they take no new streams, and close behind their last one.
 */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { Keepalive } from '../../grpc/keepalive.ts';
import type { Connection } from '../../http2/connection.ts';
import { DEFAULT_LIMITS } from '../../http2/limits.ts';
import { MAX_HEADER_BYTES } from './provider-relay.ts';

export const HTTP2_LIMITS = { ...DEFAULT_LIMITS, maxHeaderListBytes: MAX_HEADER_BYTES };

/** A proxy before the provider often closes or forgets connections after a minute. */
const MAX_IDLE_MS = 55_000;
const SWEEP_MS = 5_000;
/** Servers close a connection that resets too many streams; callers that leave make us reset them. */
const MAX_RESETS = 300;
const PING_TIMEOUT_MS = 15_000;

export interface Http2Times {
  /** 0 is no limit. */
  maxAgeMs: number;
  /** The silence after which a PING tests a connection with streams; 0 is off. */
  pingAfterMs: number;
}

interface Kept {
  readonly connection: Connection;
  readonly bornMs: number;
  readonly address: string | undefined;
  readonly keepalive: Keepalive;
  idleSinceMs: number;
}

export class Http2Connections extends Timer {
  private readonly kept: Kept[] = [];
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private readonly times: Http2Times;

  constructor(wheel: TimerWheel, clock: () => number, times: Http2Times) {
    super();
    this.wheel = wheel;
    this.clock = clock;
    this.times = times;
  }

  get size(): number {
    return this.kept.length;
  }

  add(connection: Connection): void {
    const { pingAfterMs } = this.times;
    const keepalive = new Keepalive(connection, this.wheel, {
      timeMs: pingAfterMs,
      timeoutMs: PING_TIMEOUT_MS,
      withoutStreams: false,
    });
    keepalive.start();
    const nowMs = this.clock();
    const address = connection.socket.remoteAddress;
    this.kept.push({ connection, bornMs: nowMs, address, keepalive, idleSinceMs: nowMs });
    if (!this.armed) this.wheel.arm(this, nowMs + SWEEP_MS);
  }

  /** Returns the connection with room that has the fewest streams. */
  withRoom(): Connection | undefined {
    const nowMs = this.clock();
    let best: Connection | undefined;
    for (let at = this.kept.length - 1; at >= 0; at--) {
      const one = this.kept[at]!;
      const { connection } = one;
      if (this.isOver(one, nowMs)) this.retire(at);
      else if (connection.hasCapacity && (best === undefined || connection.streams.size < best.streams.size))
        best = connection;
    }
    return best;
  }

  private isOver({ connection, bornMs }: Kept, nowMs: number): boolean {
    const { maxAgeMs } = this.times;
    return (maxAgeMs > 0 && nowMs - bornMs >= maxAgeMs) || connection.resetsSent >= MAX_RESETS;
  }

  /** The connection takes no more streams, or has closed. */
  forget(connection: Connection): void {
    const at = this.kept.findIndex((one) => one.connection === connection);
    if (at >= 0) this.kept.splice(at, 1);
  }

  /** Takes connections out of use. @param isUnwanted by the address of the provider */
  retireIf(isUnwanted: (address: string | undefined) => boolean): void {
    for (let at = this.kept.length - 1; at >= 0; at--)
      if (isUnwanted(this.kept[at]!.address)) this.retire(at);
  }

  private retire(at: number): void {
    const [one] = this.kept.splice(at, 1);
    one!.connection.shutdown();
  }

  override onTimeout(nowMs: number): void {
    for (let at = this.kept.length - 1; at >= 0; at--) {
      const one = this.kept[at]!;
      if (one.connection.streams.size > 0) one.idleSinceMs = nowMs;
      if (this.isOver(one, nowMs) || nowMs - one.idleSinceMs >= MAX_IDLE_MS) this.retire(at);
    }
    if (this.kept.length > 0) this.wheel.arm(this, nowMs + SWEEP_MS);
  }
}
