/**
 * A concurrency limit that adjusts itself: as many calls at once as the agent can run without slowing each of them
 * down. Pure; durations come in.
 *
 *     gradient = tolerance × unhurried / now            between 0.5 and 1: how much slower calls have become
 *     limit'   = gradient × limit + √limit              Envoy's formula: the root is the queue that growth needs
 *
 * `now` is the median of a window of calls, `unhurried` that median while the agent is not under pressure.
 *
 *                     calls are slower                        slow for long
 *     starting ──────────────────────────▶ following ◀──────────────────────────▶ measuring
 *     from the minimum, doubles            by the formula,    as slow as ever      at the minimum, for one
 *     with each window                     once a window                           window: that is `unhurried`
 *         ▲                                                                             │
 *         └──────────────────── calls have become slower for good ──────────────────────┘
 *
 * Known implementations are made for calls of milliseconds, at thousands a second. Here a window is a number of calls,
 * not a time: at one call a second Envoy's window of 100 ms would be empty. And `unhurried` follows slower calls only
 * while the limit is not in use. Netflix's Gradient2 averages over everything: under lasting overload its long-term
 * average approaches that of the overload, and the limit climbs. Envoy measures anew each minute, with three calls at a
 * time, which stops an agent whose calls take a minute. This limit measures when calls stay slow however low it is, and
 * less often after each measurement that changed nothing.
 */

export interface AdaptiveConcurrencySettings {
  /** The lowest limit, and the first one: Envoy's 3, enough to measure with. */
  readonly min: number;
  /** The highest limit: `max_concurrent_calls`. */
  readonly max: number;
}

/**
 * Calls may take this multiple of their unhurried duration. Netflix's 1.5: the median of 20 model calls varies by a
 * third without any load, so a lower tolerance would shrink the limit for no reason.
 */
const TOLERANCE = 1.5;
const MIN_GRADIENT = 0.5;
/** A window is as many calls as the limit, within these bounds: enough for a median, few enough to follow changes. */
const MIN_WINDOW = 20;
const MAX_WINDOW = 100;
/** The window while starting and measuring: an agent whose calls take 3 s reaches a limit of 24 after half a minute. */
const SHORT_WINDOW = 10;
/** The step of `unhurried` towards a quicker window's median, and towards a slower one's while the limit is not in use. */
const QUICKER_WEIGHT = 0.2;
const SLOWER_WEIGHT = 0.1;
/** The step of the limit towards its new value: one unlucky window is not an overload. */
const SMOOTHING = 0.5;
/** Calls dropped for overload multiply the limit by this, once a window. */
const DROP_FACTOR = 0.9;
/** At this gradient the formula settles at a limit of 16: calls are slow, but not because there are many. */
const SLOW_GRADIENT = 0.75;
/** The number of slow windows before a measurement; it doubles up to the maximum. */
const MIN_PATIENCE = 10;
const MAX_PATIENCE = 320;
/** A measurement above this multiple of the known value means that the agent itself has changed. */
const CHANGED = 1.25;

type Phase = 'starting' | 'following' | 'measuring';

export class AdaptiveConcurrency {
  private readonly settings: AdaptiveConcurrencySettings;
  private readonly durationsMs = new Float64Array(MAX_WINDOW);
  private currentPhase: Phase = 'starting';
  private samples = 0;
  private mostInFlight = 0;
  private dropped = false;
  private currentLimit: number;
  private limitBefore: number;
  private slowWindows = 0;
  private patience = MIN_PATIENCE;
  private currentUnhurriedMs = 0;
  private currentMedianMs = 0;

  constructor(settings: AdaptiveConcurrencySettings) {
    const { min, max } = settings;
    if (!(min >= 1 && min <= max))
      throw new RangeError(`the limits are ${min} and ${max}; give 1 <= min <= max`);
    this.settings = settings;
    this.currentLimit = min;
    this.limitBefore = min;
  }

  /** The number of calls that may run at once; a whole number. */
  get limit(): number {
    return Math.floor(this.currentLimit);
  }

  get phase(): Phase {
    return this.currentPhase;
  }

  /** The median of the last window, in milliseconds; 0 while unknown. For metrics, as `unhurriedMs`. */
  get medianMs(): number {
    return this.currentMedianMs;
  }

  get unhurriedMs(): number {
    return this.currentUnhurriedMs;
  }

  /**
   * A call succeeded. `inFlight` includes it; `durationMs` does not include its time in our queue. Don't record
   * failures: they are quick. Returns whether the limit may have changed.
   */
  record(durationMs: number, inFlight: number): boolean {
    // Earlier calls still slow down the ones that end now.
    if (this.currentPhase === 'measuring' && inFlight > this.settings.min) return false;
    this.durationsMs[this.samples++] = durationMs;
    if (inFlight > this.mostInFlight) this.mostInFlight = inFlight;
    if (this.samples < this.windowSize) return false;
    const sorted = this.durationsMs.subarray(0, this.samples).sort();
    this.currentMedianMs = sorted[(this.samples - 1) >> 1]!;
    this.endWindow();
    this.samples = 0;
    this.mostInFlight = 0;
    this.dropped = false;
    return true;
  }

  /** A call ended at its deadline, or the agent reported overload. */
  recordDrop(inFlight: number): void {
    if (inFlight > this.mostInFlight) this.mostInFlight = inFlight;
    if (this.dropped || this.currentPhase === 'measuring') return;
    this.dropped = true;
    this.currentPhase = 'following';
    this.currentLimit = Math.max(this.currentLimit * DROP_FACTOR, this.settings.min);
  }

  private get windowSize(): number {
    if (this.currentPhase !== 'following') return SHORT_WINDOW;
    return Math.min(Math.max(this.limit, MIN_WINDOW), MAX_WINDOW);
  }

  private endWindow(): void {
    if (this.currentPhase === 'measuring') {
      this.measured();
      return;
    }
    const pressed = this.mostInFlight >= this.currentLimit / 2;
    this.learn(pressed);
    const gradient = Math.min(
      Math.max((TOLERANCE * this.currentUnhurriedMs) / this.currentMedianMs, MIN_GRADIENT),
      1,
    );
    if (this.currentPhase === 'starting' && gradient === 1) {
      if (pressed) this.moveTo(this.currentLimit * 2);
      return;
    }
    this.currentPhase = 'following';
    const wanted = gradient * this.currentLimit + Math.sqrt(this.currentLimit);
    const next = this.currentLimit + (wanted - this.currentLimit) * SMOOTHING;
    // A limit that is not in use says nothing about a higher one.
    if (next < this.currentLimit || (pressed && !this.dropped)) this.moveTo(next);
    this.slowWindows = gradient <= SLOW_GRADIENT ? this.slowWindows + 1 : 0;
    if (this.slowWindows >= this.patience) this.measure();
  }

  private learn(pressed: boolean): void {
    const medianMs = this.currentMedianMs;
    if (this.currentUnhurriedMs === 0) this.currentUnhurriedMs = medianMs;
    else if (medianMs < this.currentUnhurriedMs)
      this.currentUnhurriedMs += (medianMs - this.currentUnhurriedMs) * QUICKER_WEIGHT;
    else if (!pressed) this.currentUnhurriedMs += (medianMs - this.currentUnhurriedMs) * SLOWER_WEIGHT;
  }

  private measure(): void {
    this.currentPhase = 'measuring';
    this.slowWindows = 0;
    this.limitBefore = this.currentLimit;
    this.currentLimit = this.settings.min;
  }

  private measured(): void {
    const changed = this.currentMedianMs > this.currentUnhurriedMs * CHANGED;
    this.patience = changed ? MIN_PATIENCE : Math.min(this.patience * 2, MAX_PATIENCE);
    if (changed) this.currentUnhurriedMs = this.currentMedianMs;
    this.currentPhase = changed ? 'starting' : 'following';
    this.moveTo(this.limitBefore);
  }

  private moveTo(limit: number): void {
    this.currentLimit = Math.min(Math.max(limit, this.settings.min), this.settings.max);
  }
}
