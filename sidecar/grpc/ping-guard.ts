import type { PingJudge } from '../http2/connection-owner.ts';

/** Strikes that are forgiven, as grpc servers do (gRFC A8). */
const MAX_STRIKES = 2;
/** An interval may be so much shorter than asked for: a network does not keep a client's beat. */
const TOLERANCE = 0.9;

/**
 * Judges a downstream's PINGs (gRFC A8, A9). One that comes sooner after the one before than `minIntervalMs` is a
 * strike; one that comes in time takes a strike back; HEADERS or DATA of ours take all of them back and allow a PING
 * at once, because clients measure the network with a PING when data has come. The third strike in hand ends the
 * connection. Whether it has streams makes no difference: a client that keeps an idle connection warm at this pace
 * costs nothing, and one that has lost its connection would only come back.
 *
 * What this guards is work without use: a fleet of idle clients, each with a PING a second. Floods are `FloodGuard`'s.
 */
export class PingGuard implements PingJudge {
  /** 0 is off. */
  readonly minIntervalMs: number;
  private strikes = 0;
  private lastAtMs = Number.NEGATIVE_INFINITY;
  private callFramesSeen = 0;

  /** These very words tell a client to double its time, as grpc servers do. */
  readonly reason = 'too_many_pings';

  constructor(minIntervalMs: number) {
    this.minIntervalMs = minIntervalMs;
  }

  get message(): string {
    return `its keepalive PINGs came more often than every ${this.minIntervalMs} ms`;
  }

  /**
   * A PING came in.
   *
   * @param callFramesSent how many HEADERS and DATA frames this side has sent so far
   * @returns false when it was one too many
   */
  accepts(nowMs: number, callFramesSent: number): boolean {
    if (this.minIntervalMs === 0) return true;
    const sinceMs = nowMs - this.lastAtMs;
    this.lastAtMs = nowMs;
    if (callFramesSent !== this.callFramesSeen) {
      this.callFramesSeen = callFramesSent;
      this.strikes = 0;
      return true;
    }
    if (sinceMs >= this.minIntervalMs * TOLERANCE) {
      if (this.strikes > 0) this.strikes--;
      return true;
    }
    return ++this.strikes <= MAX_STRIKES;
  }
}
