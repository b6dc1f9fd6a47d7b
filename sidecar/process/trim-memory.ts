/** Returns unused memory to the system while the sidecar idles. */
import { flushCompileCache } from 'node:module';
import { collectGarbage } from '../node/collect-garbage.ts';

/** How long after the start the first collection runs, when no call is active. */
const TRIM_AFTER_MS = 2_000;
/** How often {@link watchGrowth} checks memory and processor time. */
const CHECK_MS = 5_000;
/** Resident memory has to grow by this much since the start for a collection. */
const GROWN_BYTES = 50_331_648;
/**
 * A share of one core. Above it calls would wait for the collection, which stops all of them for some 100 ms, and V8
 * collects by itself anyway. A hundred calls a second take more.
 */
const QUIET_SHARE = 0.01;
/** A collection that frees less was in vain: the next one comes after twice the time, an hour at most. */
const WORTH_BYTES = 16_777_216;
const MAX_CHECKS = 720;

/**
 * Runs the garbage collector while the sidecar idles. The start leaves 15 to 20 MB of garbage: the configuration's schema,
 * compiled once, and the source text of every module. V8 would not collect it while the sidecar idles, so we collect once
 * in a moment without calls. The garbage of a burst of calls would stay as well until more work comes: a process that has
 * grown and has little to do is collected again.
 */
export function trimMemoryWhenIdle(activeCalls: () => number): void {
  const trim = () => {
    if (activeCalls() > 0) {
      schedule();
      return;
    }
    // Node writes the compile cache at exit only, which a killed process never reaches.
    flushCompileCache();
    collect();
    watchGrowth();
  };
  const schedule = () => setTimeout(trim, TRIM_AFTER_MS).unref();
  schedule();
}

function collect(): void {
  collectGarbage({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** Checks memory and processor time until the process ends; {@link GrowthWatch} decides when to collect. */
function watchGrowth(): void {
  const watch = new GrowthWatch(process.memoryUsage.rss());
  let cpu = process.cpuUsage();
  let atMs = performance.now();
  setInterval(() => {
    const nowMs = performance.now();
    const used = process.cpuUsage(cpu);
    const share = (used.user + used.system) / 1_000 / (nowMs - atMs);
    atMs = nowMs;
    if (watch.shouldCollect(process.memoryUsage.rss(), share)) collect();
    // The collection's own processor time does not count as work.
    cpu = process.cpuUsage();
  }, CHECK_MS).unref();
}

/** Decides when to collect a process that has grown. Pure: memory and processor time come in as arguments. */
export class GrowthWatch {
  private readonly afterStartBytes: number;
  /** Resident memory before the last collection; 0 once that collection has been judged. */
  private collectedBytes = 0;
  /** Resident memory after the last collection. */
  private leftBytes = Number.POSITIVE_INFINITY;
  private checksToNext = 0;
  private pauseChecks = 1;

  /** @param afterStartBytes resident memory of the process just after its start */
  constructor(afterStartBytes: number) {
    this.afterStartBytes = afterStartBytes;
  }

  /**
   * Call it at even intervals.
   *
   * @param residentBytes present resident memory
   * @param share the share of one core that the process has used since the last call
   * @returns whether to collect now
   */
  shouldCollect(residentBytes: number, share: number): boolean {
    if (residentBytes < this.afterStartBytes + GROWN_BYTES) {
      this.begin(Number.POSITIVE_INFINITY);
      return false;
    }
    if (residentBytes > this.leftBytes + WORTH_BYTES) this.begin(residentBytes);
    else if (this.collectedBytes > 0) this.judge(residentBytes);
    if (this.checksToNext-- > 0 || share > QUIET_SHARE) return false;
    this.collectedBytes = residentBytes;
    return true;
  }

  private begin(leftBytes: number): void {
    this.leftBytes = leftBytes;
    this.collectedBytes = 0;
    this.checksToNext = 0;
    this.pauseChecks = 1;
  }

  /** Judges, one interval later, how much the last collection has freed. */
  private judge(residentBytes: number): void {
    const inVain = residentBytes > this.collectedBytes - WORTH_BYTES;
    this.pauseChecks = inVain ? Math.min(2 * this.pauseChecks, MAX_CHECKS) : 1;
    this.checksToNext = this.pauseChecks;
    this.leftBytes = residentBytes;
    this.collectedBytes = 0;
  }
}
