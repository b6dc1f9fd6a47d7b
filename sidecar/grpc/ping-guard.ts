/** Limits the PINGs of downstream clients (gRFC A8, A9). */
import type { PingJudge } from '../http2/connection-owner.ts';

/** The number of strikes that we tolerate, as gRPC servers do (gRFC A8). */
const MAX_STRIKES = 2;
/** An interval may be this much shorter than required, because networks add jitter. */
const TOLERANCE = 0.9;

/**
 * Judges a downstream's PINGs (gRFC A8, A9). A PING less than `minIntervalMs` after the previous one is a strike; a
 * PING in time removes a strike; HEADERS or DATA of ours remove all strikes and allow a PING at once, because clients
 * measure the network with a PING after data. The third strike closes the connection. It makes no difference whether
 * the connection has streams: a client that keeps an idle connection open at this pace costs nothing, and a client that
 * lost its connection would only reconnect.
 *
 * This guards against useless work, such as a fleet of idle clients that each send a PING a second. `FloodGuard`
 * handles floods.
 */
export class PingGuard implements PingJudge {
  /** 0 is off. */
  readonly minIntervalMs: number;
  private strikes = 0;
  private lastAtMs = Number.NEGATIVE_INFINITY;
  private callFramesSeen = 0;

  /** With this exact text a client doubles its interval, as after a gRPC server's GOAWAY. */
  readonly reason = 'too_many_pings';

  constructor(minIntervalMs: number) {
    this.minIntervalMs = minIntervalMs;
  }

  get message(): string {
    return `its keepalive PINGs came more often than every ${this.minIntervalMs} ms`;
  }

  /**
   * Judges a received PING.
   *
   * @param callFramesSent the number of HEADERS and DATA frames that this side has sent so far
   * @returns false when the PING exceeds the limit
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
