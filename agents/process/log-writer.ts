import { writeSync } from 'node:fs';

/** The most that waits for a slow reader. */
const maxWaitingBytes = 1_048_576;
const retryMs = 20;
/** At the end of the process, and how often its output is tried then. */
const finalMs = 400;
const finalRetryMs = 2;
const standardOutput = 1;

/**
 * Writes lines to the standard output without waiting for its reader: a pipe that nobody reads would stop the whole process,
 * and its end too. Lines that do not fit what waits are dropped, and a line says how many when there is room again.
 */
export class LogWriter {
  private waiting: Buffer[] = [];
  private waitingBytes = 0;
  private dropped = 0;
  private gone = false;
  private timer: NodeJS.Timeout | undefined;

  constructor() {
    // Reading it makes Node set a pipe to non-blocking.
    process.stdout.on('error', () => {});
    process.once('exit', () => this.finish());
  }

  write(line: string): void {
    if (this.gone) return;
    if (this.waitingBytes + line.length > maxWaitingBytes) {
      this.dropped++;
      return;
    }
    if (this.dropped > 0) this.push(droppedLine(this.dropped));
    this.dropped = 0;
    this.push(line);
    if (this.timer === undefined) this.flush();
  }

  private push(line: string): void {
    const bytes = Buffer.from(line);
    this.waiting.push(bytes);
    this.waitingBytes += bytes.length;
  }

  private flush(): void {
    this.timer = this.writeSome() ? undefined : setTimeout(() => this.flush(), retryMs).unref();
  }

  /** Writes as much as is taken; false when some is left. */
  private writeSome(): boolean {
    while (this.waiting.length > 0) {
      const [first] = this.waiting as [Buffer];
      let written = first.length;
      try {
        written = writeSync(standardOutput, first);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return false;
        // There is nobody to tell any more, or the disk is full: that is no reason to stop.
        this.gone = code === 'EPIPE' || code === 'EBADF';
      }
      this.waitingBytes -= written;
      if (written < first.length) this.waiting[0] = first.subarray(written);
      else this.waiting.shift();
    }
    return true;
  }

  private finish(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    const endAtMs = performance.now() + finalMs;
    while (!this.writeSome() && performance.now() < endAtMs) Atomics.wait(clock, 0, 0, finalRetryMs);
  }
}

function droppedLine(lines: number): string {
  const msg = 'log lines are missing here: they were dropped while nobody read the log';
  return `${JSON.stringify({ level: 40, time: Date.now(), pid: process.pid, dropped_lines: lines, msg })}\n`;
}
