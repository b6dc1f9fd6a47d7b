/** Measures how much counters have grown over the last seconds. Pure. */
const WINDOW_MS = 15_000;
/** The most counters to follow: any further names are inventions of callers. */
const MAX_COUNTERS = 1_000;

interface Sample {
  readonly atMs: number;
  readonly value: number;
}

export class Recent {
  private readonly samples = new Map<string, Sample[]>();
  private readonly windowMs: number;

  constructor(windowMs = WINDOW_MS) {
    this.windowMs = windowMs;
  }

  /** How far back {@link grown} goes, in seconds. */
  get seconds(): number {
    return Math.round(this.windowMs / 1000);
  }

  /** Records a counter's value and returns its growth in the window. Call it once for each counter in each pass. */
  grown(counter: string, value: number, nowMs: number): number {
    let samples = this.samples.get(counter);
    if (samples === undefined) {
      if (this.samples.size >= MAX_COUNTERS) return 0;
      // All counters start at 0.
      samples = [{ atMs: nowMs, value: 0 }];
      this.samples.set(counter, samples);
    }
    // A counter that has decreased is another one of the same name.
    if (value < (samples.at(-1)?.value ?? 0)) samples.length = 0;
    samples.push({ atMs: nowMs, value });
    while (samples.length > 1 && samples[0]!.atMs < nowMs - this.windowMs) samples.shift();
    return value - samples[0]!.value;
  }

  /** Removes the counters that no pass has recorded since then. */
  forgetBefore(atMs: number): void {
    for (const [counter, samples] of this.samples)
      if (samples.at(-1)!.atMs < atMs) this.samples.delete(counter);
  }
}
