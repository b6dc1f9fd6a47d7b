/**
 * Writes lines to a file descriptor without ever waiting for its reader.
 *
 * The writer collects the lines of one turn of the event loop and writes them together. When the pipe is full, lines
 * wait, up to a bound; the writer drops and counts the rest, and `onDropped` writes the number of dropped lines in their
 * place. When the process ends, the writer waits up to `FINAL_MS` for the reader.
 */
import { writeSync } from 'node:fs';

/** The most bytes that wait for a slow reader. */
const MAX_WAITING_BYTES = 1_048_576;
/** How long the writer waits before it tries a full pipe again. */
const RETRY_MS = 20;
/** The same when the process ends: a live reader has emptied the pipe by then. */
const FINAL_RETRY_MS = 2;
/** A part of the two seconds that the end of the process may take (`process/end-process.ts`). */
const FINAL_MS = 400;
const NEWLINE = 0x0a;

export class LineWriter {
  /** Lines that were dropped since the start. */
  dropped = 0;
  /**
   * Called when the writer can write again, with the number of lines dropped since the last call. The lines that it
   * writes follow those from before the gap, and are never dropped for want of room.
   */
  onDropped: (lines: number) => void = () => {};
  private readonly fd: number;
  private lines: string[] = [];
  private linesLength = 0;
  /** The chunk in progress, and how many of its bytes are written. */
  private chunk: Buffer | undefined;
  private written = 0;
  private scheduled = false;
  /** A line was dropped: shorter lines behind it are dropped, too, until there is room for all. */
  private full = false;
  private broken = false;
  /** The part of `dropped` that `onDropped` has reported. */
  private told = 0;
  private telling = false;
  /** The last write failed: a report of dropped lines would fail as well. */
  private failed = false;
  /** The last write ended within a line. */
  private cut = false;

  constructor(fd: number) {
    this.fd = fd;
    process.once('exit', () => this.finish());
  }

  write(line: string): void {
    if (this.linesLength + line.length > MAX_WAITING_BYTES) this.full = true;
    if (this.broken || (this.full && !this.telling)) {
      this.dropped++;
      return;
    }
    this.lines.push(line);
    this.linesLength += line.length;
    if (this.scheduled) return;
    this.scheduled = true;
    setImmediate(() => this.flush());
  }

  private flush(): void {
    if (this.writeSome()) this.scheduled = false;
    // The timer does not keep the process alive; its exit handler flushes.
    else setTimeout(() => this.flush(), RETRY_MS).unref();
  }

  /** Writes as much as the pipe takes; returns false when some is left. */
  private writeSome(): boolean {
    while (!this.broken) {
      if (this.chunk === undefined) this.gather();
      const chunk = this.chunk;
      if (chunk === undefined) return true;
      try {
        this.written += writeSync(this.fd, chunk, this.written);
        this.failed = false;
        if (this.written === chunk.length) this.chunk = undefined;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return false;
        // The reader has closed the pipe: nobody reads an error, and the process goes on.
        this.broken = code === 'EPIPE' || code === 'EBADF';
        this.failed = true;
        // Any other error, such as a full disk, may pass.
        this.drop(chunk);
      }
    }
    return true;
  }

  /** Drops the rest of the chunk, and counts its lines. */
  private drop(chunk: Buffer): void {
    for (let at = this.written; at < chunk.length; at++) if (chunk[at] === NEWLINE) this.dropped++;
    if (this.written > 0) this.cut = chunk[this.written - 1] !== NEWLINE;
    this.chunk = undefined;
    if (!this.broken) return;
    this.dropped += this.lines.length;
    this.lines = [];
    this.linesLength = 0;
  }

  private gather(): void {
    this.tellDropped();
    if (this.lines.length === 0) return;
    // The next line must not continue the one that was cut.
    if (this.cut) this.lines.unshift('\n');
    this.cut = false;
    this.chunk = Buffer.from(this.lines.join(''));
    this.written = 0;
    this.lines = [];
    this.linesLength = 0;
    this.full = false;
  }

  private tellDropped(): void {
    const lines = this.dropped - this.told;
    if (lines === 0 || this.failed) return;
    this.told = this.dropped;
    // A flush is in progress, so `write` needs to schedule none.
    const scheduled = this.scheduled;
    this.scheduled = true;
    this.telling = true;
    this.onDropped(lines);
    this.telling = false;
    this.scheduled = scheduled;
  }

  private finish(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    const endAtMs = performance.now() + FINAL_MS;
    while (!this.writeSome() && performance.now() < endAtMs) Atomics.wait(clock, 0, 0, FINAL_RETRY_MS);
  }
}

/**
 * Makes a writer to standard output. Reading `process.stdout` makes Node set a pipe to non-blocking; otherwise the first
 * write to a full pipe would block the whole process.
 */
export function stdoutWriter(): LineWriter {
  process.stdout.on('error', () => {});
  return new LineWriter(1);
}
