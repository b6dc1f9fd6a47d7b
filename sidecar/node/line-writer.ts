/**
 * Writes lines to a file descriptor without ever waiting for its reader.
 *
 * Lines are gathered for one turn of the event loop and written together. What a full pipe does not take
 * waits, up to a bound; more is dropped and counted, and the reader is told how many lines it has missed where they would
 * have stood. At the end of the process the reader gets a last moment.
 */
import { writeSync } from 'node:fs';

/** The most that waits for a slow reader. */
const MAX_WAITING_BYTES = 1_048_576;
/** A full pipe is tried again after so long. */
const RETRY_MS = 20;
/** At the end: a reader that reads has taken a pipe's content by then. */
const FINAL_RETRY_MS = 2;
/** A part of the two seconds that an end may take (`process/end-process.ts`). */
const FINAL_MS = 400;
const NEWLINE = 0x0a;

export class LineWriter {
  /** Lines that nobody will read. */
  dropped = 0;
  /**
   * Called when lines can be written again, with the number of those that were dropped since the last call. What it writes
   * stands behind the lines that came before them, and is never dropped for want of room.
   */
  onDropped: (lines: number) => void = () => {};
  readonly #fd: number;
  #lines: string[] = [];
  #linesLength = 0;
  /** What is being written, and how much of it has been. */
  #chunk: Buffer | undefined;
  #written = 0;
  #scheduled = false;
  /** A line has been dropped: shorter ones behind it are, too, until there is room for all. */
  #full = false;
  #broken = false;
  /** Of `dropped`, those that `onDropped` has been called with. */
  #told = 0;
  #telling = false;
  /** The last write has failed: what tells of it would fail as well. */
  #failed = false;
  /** The last write has left a line without its end. */
  #cut = false;

  constructor(fd: number) {
    this.#fd = fd;
    process.once('exit', () => this.#finish());
  }

  write(line: string): void {
    if (this.#linesLength + line.length > MAX_WAITING_BYTES) this.#full = true;
    if (this.#broken || (this.#full && !this.#telling)) {
      this.dropped++;
      return;
    }
    this.#lines.push(line);
    this.#linesLength += line.length;
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => this.#flush());
  }

  #flush(): void {
    if (this.#writeSome()) this.#scheduled = false;
    // The timer keeps no process alive: its end flushes.
    else setTimeout(() => this.#flush(), RETRY_MS).unref();
  }

  /** Writes as much as is taken; false when some is left. */
  #writeSome(): boolean {
    while (!this.#broken) {
      if (this.#chunk === undefined) this.#gather();
      const chunk = this.#chunk;
      if (chunk === undefined) return true;
      try {
        this.#written += writeSync(this.#fd, chunk, this.#written);
        this.#failed = false;
        if (this.#written === chunk.length) this.#chunk = undefined;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return false;
        // The reader has closed the pipe: there is nobody to tell, and no reason to stop.
        this.#broken = code === 'EPIPE' || code === 'EBADF';
        this.#failed = true;
        // Any other error, a full disk for one, may pass.
        this.#drop(chunk);
      }
    }
    return true;
  }

  /** Gives up the rest of what is being written. */
  #drop(chunk: Buffer): void {
    for (let at = this.#written; at < chunk.length; at++) if (chunk[at] === NEWLINE) this.dropped++;
    if (this.#written > 0) this.#cut = chunk[this.#written - 1] !== NEWLINE;
    this.#chunk = undefined;
    if (!this.#broken) return;
    this.dropped += this.#lines.length;
    this.#lines = [];
    this.#linesLength = 0;
  }

  #gather(): void {
    this.#tellDropped();
    if (this.#lines.length === 0) return;
    // Half a line and a whole one together would be no line at all.
    if (this.#cut) this.#lines.unshift('\n');
    this.#cut = false;
    this.#chunk = Buffer.from(this.#lines.join(''));
    this.#written = 0;
    this.#lines = [];
    this.#linesLength = 0;
    this.#full = false;
  }

  #tellDropped(): void {
    const lines = this.dropped - this.#told;
    if (lines === 0 || this.#failed) return;
    this.#told = this.dropped;
    // It writes: no turn of the loop needs to be asked for.
    const scheduled = this.#scheduled;
    this.#scheduled = true;
    this.#telling = true;
    this.onDropped(lines);
    this.#telling = false;
    this.#scheduled = scheduled;
  }

  #finish(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    const endAtMs = performance.now() + FINAL_MS;
    while (!this.#writeSome() && performance.now() < endAtMs) Atomics.wait(clock, 0, 0, FINAL_RETRY_MS);
  }
}

/**
 * A writer to standard output. Reading `process.stdout` makes Node set a pipe to non-blocking; otherwise
 * the first write that a full pipe does not take would stop the whole process.
 */
export function stdoutWriter(): LineWriter {
  process.stdout.on('error', () => {});
  return new LineWriter(1);
}
