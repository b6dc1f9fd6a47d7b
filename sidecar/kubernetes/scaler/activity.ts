/**
 * Tells streams whether there is work, at each change. The bus says when a task begins to wait, so that a workload of zero
 * replicas starts at once; a look every two seconds finds the end of the work, and what the bus has not said. While the answer
 * is not known nothing is told: KEDA keeps what it has.
 */

export interface ActivitySource {
  /**
   * Whether there is work; rejects while that is not known.
   *
   * @param isNews what was known before is too old
   */
  readonly isActive: (isNews: boolean) => Promise<boolean>;
  /** Calls `onWork` when there may be work. Returns what ends it. */
  readonly listen: (onWork: () => void) => () => void;
}

const LOOK_EVERY_MS = 2_000;
/** Between two looks, however many tasks come. */
const LEAST_MS = 50;

/** The activity of one trigger, for one stream. */
export class Activity {
  private readonly source: ActivitySource;
  private readonly tell: (active: boolean) => void;
  private readonly deafen: () => void;
  private told: boolean | undefined = undefined;
  private timer: NodeJS.Timeout | undefined = undefined;
  private lookedAtMs = Number.NEGATIVE_INFINITY;
  private isLooking = false;
  private isNews = true;
  private isOver = false;

  constructor(source: ActivitySource, tell: (active: boolean) => void) {
    this.source = source;
    this.tell = tell;
    this.deafen = source.listen(() => this.look());
    this.look();
  }

  /** Looks soon, unless there is work already as far as is known: its end is no hurry. */
  look(): void {
    if (this.told === true) return;
    this.isNews = true;
    this.lookIn(this.lookedAtMs + LEAST_MS - performance.now());
  }

  stop(): void {
    this.isOver = true;
    clearTimeout(this.timer);
    this.deafen();
  }

  private lookIn(ms: number): void {
    if (this.isOver || this.isLooking) return;
    clearTimeout(this.timer);
    if (ms <= 0) void this.lookOnce();
    else this.timer = setTimeout(() => void this.lookOnce(), ms);
  }

  private async lookOnce(): Promise<void> {
    const { isNews } = this;
    this.isLooking = true;
    this.isNews = false;
    let active = this.told;
    try {
      active = await this.source.isActive(isNews);
    } catch {
      // GetMetrics says why.
    }
    this.isLooking = false;
    this.lookedAtMs = performance.now();
    if (this.isOver) return;
    if (active !== undefined && active !== this.told) {
      this.told = active;
      this.tell(active);
    }
    this.lookIn(this.isNews && this.told !== true ? LEAST_MS : LOOK_EVERY_MS);
  }
}
