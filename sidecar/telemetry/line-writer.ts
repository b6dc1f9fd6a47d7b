/**
 * Writes lines to a file descriptor without ever waiting for its reader.
 *
 * Lines are gathered for one turn of the event loop and written together. What a full pipe does not take
 * waits, up to a bound; more is dropped and counted. At the end of the process the reader gets a
 * last second.
 */
import { writeSync } from 'node:fs';

/** What waits for a reader that is slow. */
const MAX_WAITING_BYTES = 1_048_576;
/** A full pipe is tried again after so long. */
const RETRY_MS = 20;
const MAX_FINAL_TRIES = 50;

export class LineWriter {
  readonly #fd: number;
  readonly #onDrop: (bytes: number) => void;
  #lines: string[] = [];
  #linesLength = 0;
  /** What is being written, and how much of it has been. */
  #chunk: Buffer | undefined;
  #written = 0;
  #scheduled = false;
  #broken = false;

  /** @param onDrop called with the length of each line that is dropped because nobody reads */
  constructor(fd: number, onDrop: (bytes: number) => void) {
    this.#fd = fd;
    this.#onDrop = onDrop;
    process.once('exit', () => this.#finish());
  }

  write(line: string): void {
    if (this.#broken) return;
    if (this.#linesLength + line.length > MAX_WAITING_BYTES) {
      this.#onDrop(line.length);
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
        if (this.#written === chunk.length) this.#chunk = undefined;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === 'EAGAIN') return false;
        // The reader has closed the pipe: there is nobody to tell, and no reason to stop.
        this.#broken = code === 'EPIPE' || code === 'EBADF';
        // Any other error, a full disk for one, may pass.
        this.#onDrop(chunk.length - this.#written);
        this.#chunk = undefined;
      }
    }
    return true;
  }

  #gather(): void {
    if (this.#lines.length === 0) return;
    this.#chunk = Buffer.from(this.#lines.join(''));
    this.#written = 0;
    this.#lines = [];
    this.#linesLength = 0;
  }

  #finish(): void {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let tries = 0; !this.#writeSome() && tries < MAX_FINAL_TRIES; tries++)
      Atomics.wait(clock, 0, 0, RETRY_MS);
  }
}

/**
 * A writer to standard output. Reading `process.stdout` makes Node set a pipe to non-blocking; otherwise
 * the first write that a full pipe does not take would stop the whole process.
 */
export function stdoutWriter(onDrop: (bytes: number) => void): LineWriter {
  process.stdout.on('error', () => {});
  return new LineWriter(1, onDrop);
}
