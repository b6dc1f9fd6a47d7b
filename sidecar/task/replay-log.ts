/** Holds the bytes of one answer for replay. */
import { SHORT_COPY_MAX_BYTES, type ShortCopy, shortCopies } from '../http2/short-copy.ts';

/**
 * The bytes of an answer, in order, for followers that join the run later or get the answer replayed.
 *
 *     dropped   page      page            page
 *     ┌ ─ ─ ─ ┬────────┬───────────────┬─────────────┬───┐
 *     └ ─ ─ ─ ┴────────┴───────────────┴─────────────┴───┘
 *             ▲ start            ▲ a reader          ▲ length
 *
 * The log copies bytes on append: a socket's bytes arrive in slabs of 64 KiB, and a log that referred to one token of each
 * would keep all slabs alive. It never moves written bytes, so readers get views without copying. A short answer that arrives
 * in one piece lies in memory that others use after `clear`.
 */

const MIN_PAGE_BYTES = 512;
const MAX_PAGE_BYTES = 65_536;
/** The pages of an empty log; never written to. */
const NO_PAGES: Page[] = [];

interface Page {
  readonly buffer: Buffer;
  /** The offset of its first byte in the buffer. */
  readonly first: number;
  readonly size: number;
  /** The offset of its first byte in the log. */
  readonly startsAt: number;
  used: number;
}

export class ReplayLog {
  private pages: Page[] = NO_PAGES;
  /** The memory of the first page, if that is a short copy. */
  private short: ShortCopy | undefined = undefined;
  /** Bytes appended so far. */
  length = 0;
  /** Memory held, in bytes. */
  heldBytes = 0;

  /** The offset of the first byte that has not been dropped. */
  get start(): number {
    return this.pages[0]?.startsAt ?? this.length;
  }

  append(buffer: Buffer, start: number, end: number): void {
    let from = start;
    // Most answers arrive in one short piece.
    if (this.pages.length === 0 && end - start <= SHORT_COPY_MAX_BYTES) {
      const size = end - start;
      const copy = shortCopies.copy(buffer, start, end);
      this.short = copy;
      this.addPage({ buffer: copy.buffer, first: copy.used - size, size, startsAt: this.length, used: size });
      this.length += size;
      return;
    }
    while (from < end) {
      const page = this.pageFor(end - from);
      const bytes = Math.min(end - from, page.size - page.used);
      buffer.copy(page.buffer, page.used, from, from + bytes);
      page.used += bytes;
      from += bytes;
      this.length += bytes;
    }
  }

  /** Returns the last page, if it has room, or a new one. A new page holds all of `bytes` if possible; pages grow. */
  private pageFor(bytes: number): Page {
    const last = this.pages.at(-1);
    if (last !== undefined && last.used < last.size) return last;
    const size = Math.min(Math.max(bytes, this.length, MIN_PAGE_BYTES), MAX_PAGE_BYTES);
    // Not from Node's shared pool: a page in it would keep unrelated bytes alive.
    const buffer = Buffer.allocUnsafeSlow(size);
    return this.addPage({ buffer, first: 0, size, startsAt: this.length, used: 0 });
  }

  private addPage(page: Page): Page {
    if (this.pages.length === 0) this.pages = [page];
    else this.pages.push(page);
    this.heldBytes += page.size;
    return page;
  }

  /** Copies the whole log, of which nothing may have been dropped. */
  copyTo(target: Buffer, at: number): void {
    for (const { buffer, first, used, startsAt } of this.pages)
      buffer.copy(target, at + startsAt, first, first + used);
  }

  /** Returns the bytes from `offset` to the end of a page; undefined at the end of the log, and for dropped bytes. */
  read(offset: number): Buffer | undefined {
    if (offset < this.start || offset >= this.length) return undefined;
    const pages = this.pages;
    let low = 0;
    let high = pages.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pages[middle]!.startsAt <= offset) low = middle;
      else high = middle - 1;
    }
    const { buffer, first, startsAt, used } = pages[low]!;
    return buffer.subarray(first + offset - startsAt, first + used);
  }

  /** Drops whole pages before `offset`. */
  dropBefore(offset: number): void {
    let count = 0;
    for (const { startsAt, used, size } of this.pages) {
      if (startsAt + used > offset || used < size) break;
      this.heldBytes -= size;
      count++;
    }
    if (count === 0) return;
    this.pages = this.pages.slice(count);
    this.giveBack();
  }

  clear(): void {
    this.pages = NO_PAGES;
    this.heldBytes = 0;
    this.giveBack();
  }

  private giveBack(): void {
    if (this.short === undefined) return;
    shortCopies.give(this.short);
    this.short = undefined;
  }
}
