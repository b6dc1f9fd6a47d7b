/**
 * Ten minutes of a listener's traffic in a fixed number of points, for the chart of the pages. Pure: its owner adds a point
 * every few seconds, from counters that exist anyway.
 */
const POINTS = 120;

export interface HistoryPoint {
  readonly calls: number;
  readonly errors: number;
  /** The share of OK; null where no call ended with OK, failed or was refused. */
  readonly success: number | null;
  readonly p95_ms: number | null;
}

export class LongHistory {
  private readonly everyMs: number;
  private readonly points: (HistoryPoint | undefined)[] = [];
  private newestAtMs = 0;

  /** @param everyMs the time from one point to the next */
  constructor(everyMs: number) {
    this.everyMs = everyMs;
  }

  /**
   * Adds the newest point, and empty ones for the time in which the process was stopped.
   *
   * @param wallMs the time of day
   */
  add(point: HistoryPoint, wallMs: number): void {
    const gaps = this.newestAtMs === 0 ? 0 : Math.round((wallMs - this.newestAtMs) / this.everyMs) - 1;
    for (let gap = 0; gap < Math.min(gaps, POINTS); gap++) this.points.push(undefined);
    this.points.push(point);
    this.points.splice(0, this.points.length - POINTS);
    this.newestAtMs = wallMs;
  }

  /** Calls and errors of each point, oldest first; null where nothing is known. */
  report() {
    const of = (key: keyof HistoryPoint) => this.points.map((point) => point?.[key] ?? null);
    return {
      every_ms: this.everyMs,
      newest_at: this.newestAtMs === 0 ? null : new Date(this.newestAtMs).toISOString(),
      calls: of('calls'),
      errors: of('errors'),
      success: of('success'),
      p95_ms: of('p95_ms'),
    };
  }
}
