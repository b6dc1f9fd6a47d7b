/** The allowances that a peer spends by useless work. */
import type { ConnectionLimits } from './limits.ts';

/** A token bucket that refills with time and with useful work. It is empty when the peer causes only useless work. */
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

  /** Reads the clock only when the bucket is empty, so that a well-behaved peer costs one subtraction. */
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

/** The control frames that a message or a call earns the peer. */
const CONTROL_FOR_DATA = 4;
/** A smaller DATA frame earns one. */
const SMALL_DATA_BYTES = 256;
/** SETTINGS that change the windows of all streams cost one control frame for this many streams. */
const STREAMS_PER_CONTROL = 16;
/** The cancels and stream errors that a peer may cause each second, without end. */
const RESETS_PER_SECOND = 200;
/** A peer may make an error on each of its streams at once, including those that it opens before it has our SETTINGS. */
const LEAST_FAULTS = 1_024;
const MORE_FAULTS = 100;
const GRACE_CANCELS = 1_000;
const AT_ONCE_SHARE = 0.9;
/** The calls that a peer may begin after our GOAWAY: a busy peer reads it late, and begins thousands a second. */
const LATE_CALLS = 32_768;

/** `resets`: the allowance for wasted streams is used up; `faults`: the allowance for errors is. */
export type FaultVerdict = 'within' | 'resets' | 'faults';

/**
 * Limits floods. Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown types, interim responses,
 * frames that arrive too late for their stream) spend an allowance that calls and DATA earn back.
 *
 * Wasted streams spend another allowance, whichever side resets them: streams that the peer resets (CVE-2023-44487), streams
 * that we reset for its errors (CVE-2025-8671, "MadeYouReset"), and calls that we give up because of their content. Streams
 * that end in order earn it back. A caller may cancel many of its calls, and other callers may share its connection: the
 * allowance is generous, and a peer that exceeds it loses no running call. Errors in HTTP/2 itself also spend a smaller
 * allowance; a peer that exceeds that loses the connection.
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

  /** Counts a received control frame. @returns false to answer GOAWAY ENHANCE_YOUR_CALM */
  controlFrame(): boolean {
    return this.control.spend(this.clock);
  }

  /** Counts SETTINGS that change the windows of this many streams. @returns false to answer GOAWAY ENHANCE_YOUR_CALM */
  settingsMove(streams: number): boolean {
    return this.control.spend(this.clock, Math.ceil(streams / STREAMS_PER_CONTROL));
  }

  /** Counts received HEADERS of a call, or DATA sent at once: they earn the peer some control frames. */
  progress(): void {
    this.control.earn(CONTROL_FOR_DATA);
  }

  /** Counts bytes received, or sent because a window opened. A few bytes pay only for the WINDOW_UPDATE that opened it. */
  moved(bytes: number): void {
    this.control.earn(bytes >= SMALL_DATA_BYTES ? CONTROL_FOR_DATA : 1);
  }

  /**
   * Counts a stream that the peer has wasted.
   *
   * @param atOnce whether the stream ended right after it began
   * @param count the tokens that it costs
   * @returns false when the peer shall continue on another connection
   */
  cancel(atOnce: boolean, count = 1): boolean {
    this.wasted++;
    if (atOnce) this.wastedAtOnce++;
    return this.resets.spend(this.clock, count);
  }

  /** Nearly all wasted streams ended right after they began. */
  get cancelsAtOnce(): boolean {
    return this.wastedAtOnce >= AT_ONCE_SHARE * this.wasted;
  }

  /** Earns some more cancels for a peer that may not have received our GOAWAY yet. */
  allowCancels(): void {
    this.resets.earn(GRACE_CANCELS);
  }

  /** Counts a stream that we have reset for the peer's error. */
  fault(atOnce: boolean): FaultVerdict {
    const within = this.cancel(atOnce);
    if (!this.faults.spend(this.clock)) return 'faults';
    return within ? 'within' : 'resets';
  }

  /** Counts a call that the peer begins after our GOAWAY, and earns its RST_STREAM. @returns false when the peer ignores GOAWAY */
  lateCall(): boolean {
    this.control.earn(1);
    return this.late.spend(this.clock);
  }

  streamFinished(): void {
    this.resets.earn(1);
    this.faults.earn(1);
  }
}
