/**
 * The clock of a file: milliseconds since 1970 that never go back, the same in all processes of the machine.
 *
 * It is the machine's monotonic clock and an offset, which the file holds. Each boot begins with an offset of its own.
 * When the wall clock is set back, the log's clock goes on; when it is far ahead (it was set, or the machine slept, which
 * the monotonic clock doesn't count), the offset follows.
 */
import { readFileSync } from 'node:fs';

/** How far the wall clock may be ahead before the offset follows. */
const AHEAD_MS = 2_000;

/** The columns of the table `log` that hold the clock. */
export interface StoredClock {
  clock_offset: number;
  clock_boot: string;
  /** A time that the clock had already. */
  clock_last: number;
}

export const monotonicMs = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/** Tells this boot from others; where the system says nothing, a clock that went back does. */
function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
  } catch {
    return 'unknown';
  }
}

export class LogClock {
  offsetMs = 0;
  private readonly boot = bootId();
  private readonly wallMs: () => number;
  private readonly steadyMs: () => number;

  constructor(wallMs: () => number = Date.now, steadyMs = monotonicMs) {
    this.wallMs = wallMs;
    this.steadyMs = steadyMs;
  }

  /** @param stored as the file has it; undefined for the offset that is known already */
  nowMs(stored: StoredClock | undefined): number {
    if (stored !== undefined && this.fits(stored)) this.offsetMs = stored.clock_offset;
    return this.steadyMs() + this.offsetMs;
  }

  /**
   * Takes the offset of the file, or makes another one. Returns undefined when the file's holds; otherwise the file must
   * take the new one, and the milliseconds by which it is ahead of the old one within the same boot.
   */
  keep(stored: StoredClock): number | undefined {
    const wallOffsetMs = this.wallMs() - this.steadyMs();
    if (!this.fits(stored)) {
      this.offsetMs = Math.max(wallOffsetMs, stored.clock_last - this.steadyMs());
      return 0;
    }
    const aheadMs = wallOffsetMs - stored.clock_offset;
    this.offsetMs = aheadMs > AHEAD_MS ? wallOffsetMs : stored.clock_offset;
    return aheadMs > AHEAD_MS ? aheadMs : undefined;
  }

  stored(nowMs: number): StoredClock {
    return { clock_offset: this.offsetMs, clock_boot: this.boot, clock_last: nowMs };
  }

  private fits({ clock_boot, clock_offset, clock_last }: StoredClock): boolean {
    return clock_boot === this.boot && this.steadyMs() + clock_offset >= clock_last - AHEAD_MS;
  }
}
