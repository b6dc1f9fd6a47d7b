import { flushCompileCache } from 'node:module';

/** After the start, and long enough before anybody looks at memory. */
const TRIM_AFTER_MS = 2_000;
/** How often it is looked whether memory has grown that nobody uses. */
const LOOK_MS = 5_000;
/** So much more than after the start is worth a collection. */
const GROWN_BYTES = 50_331_648;
/** Of a core: above it somebody would wait for the collection, and the collector runs by itself anyway. */
const QUIET_SHARE = 0.1;
/** A collection that gives back less was in vain; the next one comes after twice the time, an hour at most. */
const WORTH_BYTES = 16_777_216;
const MAX_LOOKS = 720;

/**
 * Starting leaves 15 to 20 MB that nobody will use again: the configuration's schema, compiled once, the source
 * text of every module. A sidecar that then idles would never collect it, so it is collected once, in a moment
 * without calls. And what a rush of calls has left would stay for as long as nothing else comes: a process that has grown and
 * has little to do is collected again.
 */
export function trimMemoryWhenIdle(activeCalls: () => number): void {
  const trim = () => {
    if (activeCalls() > 0) {
      schedule();
      return;
    }
    // Otherwise written at the exit only, which a process that is killed never comes to.
    flushCompileCache();
    collect();
    watchGrowth();
  };
  const schedule = () => setTimeout(trim, TRIM_AFTER_MS).unref();
  schedule();
}

let collector: ((options: object) => void) | undefined;

function collect(): void {
  if (collector === undefined) {
    // Here, because loading them would be a thirtieth of the start.
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    collector = runInNewContext('gc') as (options: object) => void;
    setFlagsFromString('--no-expose-gc');
  }
  collector({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}

/** Looks at memory and processor time for as long as the process lives; see {@link GrowthWatch}. */
function watchGrowth(): void {
  const watch = new GrowthWatch(process.memoryUsage.rss());
  let cpu = process.cpuUsage();
  let atMs = performance.now();
  setInterval(() => {
    const nowMs = performance.now();
    const used = process.cpuUsage(cpu);
    const share = (used.user + used.system) / 1_000 / (nowMs - atMs);
    atMs = nowMs;
    if (watch.look(process.memoryUsage.rss(), share)) collect();
    // What the collection itself takes is no work of others.
    cpu = process.cpuUsage();
  }, LOOK_MS).unref();
}

/** When a process that has grown is to be collected. Pure: memory and time come in. */
export class GrowthWatch {
  private readonly afterStartBytes: number;
  /** What it had when it was collected; 0 when that has been judged. */
  private collectedBytes = 0;
  /** What the last collection has left. */
  private leftBytes = Number.POSITIVE_INFINITY;
  private looksToNext = 0;
  private pauseLooks = 1;

  /** @param afterStartBytes resident memory of the process that has just started */
  constructor(afterStartBytes: number) {
    this.afterStartBytes = afterStartBytes;
  }

  /**
   * To be called at even intervals.
   *
   * @param residentBytes what it has now
   * @param share of a core that it has used since the last look
   * @returns whether to collect now
   */
  look(residentBytes: number, share: number): boolean {
    if (residentBytes < this.afterStartBytes + GROWN_BYTES) {
      this.begin(Number.POSITIVE_INFINITY);
      return false;
    }
    if (residentBytes > this.leftBytes + WORTH_BYTES) this.begin(residentBytes);
    else if (this.collectedBytes > 0) this.judge(residentBytes);
    if (this.looksToNext-- > 0 || share > QUIET_SHARE) return false;
    this.collectedBytes = residentBytes;
    return true;
  }

  private begin(leftBytes: number): void {
    this.leftBytes = leftBytes;
    this.collectedBytes = 0;
    this.looksToNext = 0;
    this.pauseLooks = 1;
  }

  /** What the last collection has brought, at the look behind it. */
  private judge(residentBytes: number): void {
    const inVain = residentBytes > this.collectedBytes - WORTH_BYTES;
    this.pauseLooks = inVain ? Math.min(2 * this.pauseLooks, MAX_LOOKS) : 1;
    this.looksToNext = this.pauseLooks;
    this.leftBytes = residentBytes;
    this.collectedBytes = 0;
  }
}
