import type { ConnectionLimits } from './limits.ts';

/** A bucket that refills with time and with useful work; empty means that the peer only makes work. */
class Allowance {
  private readonly capacity: number;
  private readonly perSecond: number;
  private tokens: number;
  private refilledAtMs: number;

  constructor(initial: number, capacity: number, perSecond: number, nowMs: number) {
    this.capacity = capacity;
    this.perSecond = perSecond;
    this.tokens = initial;
    this.refilledAtMs = nowMs;
  }

  earn(count: number): void {
    this.tokens = Math.min(this.capacity, this.tokens + count);
  }

  /** The clock is read only when the bucket runs dry, so that a peaceful peer costs a subtraction. */
  spend(clock: () => number, count = 1): boolean {
    const left = this.tokens - count;
    if (left >= 0) {
      this.tokens = left;
      return true;
    }
    const nowMs = clock();
    const refilled = ((nowMs - this.refilledAtMs) / 1000) * this.perSecond;
    this.tokens = Math.min(this.capacity, Math.max(this.tokens, 0) + refilled) - count;
    this.refilledAtMs = nowMs;
    return this.tokens >= 0;
  }
}

/** Control frames that a message, or a call, entitles the peer to. */
const CONTROL_FOR_DATA = 4;
/** DATA that is smaller entitles it to one: it earns as little as it is. */
const SMALL_DATA_BYTES = 256;
/** SETTINGS that move the windows of all streams cost a control frame for so many of them. */
const STREAMS_PER_CONTROL = 16;
/** Cancels and stream errors that a peer may cause each second, for as long as it likes. */
const RESETS_PER_SECOND = 200;
/** It may get all of its streams wrong at once, those included that it opens before it knows how many it may have. */
const LEAST_FAULTS = 1_024;
const MORE_FAULTS = 100;
const GRACE_CANCELS = 1_000;
const AT_ONCE_SHARE = 0.9;
/** Calls that a peer may begin behind our GOAWAY: a busy one reads it late, and begins thousands a second. */
const LATE_CALLS = 32_768;

/** `resets`: the allowance for streams that come to nothing is used up; `faults`: the one for errors is. */
export type FaultVerdict = 'within' | 'resets' | 'faults';

/**
 * Counts what floods are made of. Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
 * types, interim responses, frames that come too late for their stream) spend an allowance that calls and DATA earn back.
 *
 * Streams that come to nothing by the peer's doing spend another one, whoever resets them: those that the peer resets
 * (CVE-2023-44487), those that its errors make us reset (CVE-2025-8671, "MadeYouReset"), and those of calls that we begin,
 * or refuse, and give up for what the peer has said in them. Streams that end in order earn it back. A caller that
 * cancels much of what it starts is legal, and others may share its connection: the allowance is generous, and what lies
 * beyond it ends no running call. Errors in HTTP/2 itself have a smaller one besides, beyond which the connection ends.
 */
export class FloodGuard {
  private readonly control: Allowance;
  private readonly resets: Allowance;
  private readonly faults: Allowance;
  private readonly late: Allowance;
  private wasted = 0;
  private wastedAtOnce = 0;
  private readonly clock: () => number;

  constructor(clock: () => number, limits: ConnectionLimits) {
    this.clock = clock;
    const nowMs = clock();
    this.control = new Allowance(2_000, 10_000, 100, nowMs);
    this.resets = new Allowance(limits.cancelBurst, limits.cancelBurst, RESETS_PER_SECOND, nowMs);
    const faults = Math.max(limits.maxConcurrentStreams, LEAST_FAULTS) + MORE_FAULTS;
    this.faults = new Allowance(faults, 2 * faults, RESETS_PER_SECOND, nowMs);
    this.late = new Allowance(LATE_CALLS, LATE_CALLS, RESETS_PER_SECOND, nowMs);
  }

  /** One control frame came in. False: answer GOAWAY ENHANCE_YOUR_CALM. */
  controlFrame(): boolean {
    return this.control.spend(this.clock);
  }

  /** SETTINGS that came in move the windows of so many streams. False: answer GOAWAY ENHANCE_YOUR_CALM. */
  settingsMove(streams: number): boolean {
    return this.control.spend(this.clock, Math.ceil(streams / STREAMS_PER_CONTROL));
  }

  /** HEADERS of a call came, or DATA went out at once: it entitles the peer to some control frames. */
  progress(): void {
    this.control.earn(CONTROL_FOR_DATA);
  }

  /** So many bytes came, or went out because a window opened. A few pay for the WINDOW_UPDATE that let them through. */
  moved(bytes: number): void {
    this.control.earn(bytes >= SMALL_DATA_BYTES ? CONTROL_FOR_DATA : 1);
  }

  /**
   * A stream came to nothing by the peer's doing. False: so many have that it should go on with another connection.
   *
   * @param atOnce the same read had brought the stream
   * @param count what it costs
   */
  cancel(atOnce: boolean, count = 1): boolean {
    this.wasted++;
    if (atOnce) this.wastedAtOnce++;
    return this.resets.spend(this.clock, count);
  }

  /** Hardly any of what came to nothing had lived. */
  get cancelsAtOnce(): boolean {
    return this.wastedAtOnce >= AT_ONCE_SHARE * this.wasted;
  }

  /** Some more, for a peer that has been asked to go and may not have heard it yet. */
  allowCancels(): void {
    this.resets.earn(GRACE_CANCELS);
  }

  /** A stream was reset by us for the peer's error. */
  fault(atOnce: boolean): FaultVerdict {
    const within = this.cancel(atOnce);
    if (!this.faults.spend(this.clock)) return 'faults';
    return within ? 'within' : 'resets';
  }

  /** The peer began a call behind our GOAWAY. Its RST_STREAM is paid with it. False: it does not mean to go. */
  lateCall(): boolean {
    this.control.earn(1);
    return this.late.spend(this.clock);
  }

  streamFinished(): void {
    this.resets.earn(1);
    this.faults.earn(1);
  }
}
