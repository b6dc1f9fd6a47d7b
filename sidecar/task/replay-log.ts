import { SHORT_COPY_MAX_BYTES, shortCopy } from '../http2/short-copy.ts';

/**
 * The bytes of an answer, in order, for those who join it later or ask for it again.
 *
 *     dropped   page      page            page
 *     ┌ ─ ─ ─ ┬────────┬───────────────┬─────────────┬───┐
 *     └ ─ ─ ─ ┴────────┴───────────────┴─────────────┴───┘
 *             ▲ start            ▲ a reader          ▲ length
 *
 * Bytes are copied in: what arrives on a socket lies in slabs that are 64 KiB large, and a log that kept a token of
 * each would keep them all. What has been written is never moved, so readers get views without copying.
 */

const MIN_PAGE_BYTES = 512;
const MAX_PAGE_BYTES = 65_536;
/** Of a log without bytes; never written to. */
const NO_PAGES: Page[] = [];

interface Page {
  readonly buffer: Buffer;
  /** Offset of its first byte in the log. */
  readonly startsAt: number;
  used: number;
}

export class ReplayLog {
  #pages: Page[] = NO_PAGES;
  /** Bytes appended so far. */
  length = 0;
  /** Memory held, in bytes. */
  heldBytes = 0;

  /** The offset of the first byte that is still here. */
  get start(): number {
    return this.#pages[0]?.startsAt ?? this.length;
  }

  append(buffer: Buffer, start: number, end: number): void {
    let from = start;
    // Most answers come in one short piece.
    if (this.#pages.length === 0 && end - start <= SHORT_COPY_MAX_BYTES) {
      const copy = shortCopy(buffer, start, end);
      this.#addPage({ buffer: copy, startsAt: this.length, used: copy.length });
      this.length += copy.length;
      return;
    }
    while (from < end) {
      const page = this.#pageFor(end - from);
      const bytes = Math.min(end - from, page.buffer.length - page.used);
      buffer.copy(page.buffer, page.used, from, from + bytes);
      page.used += bytes;
      from += bytes;
      this.length += bytes;
    }
  }

  /** The last page, if it has room, or a new one: for all of `bytes` when it can be, and larger from page to page. */
  #pageFor(bytes: number): Page {
    const last = this.#pages.at(-1);
    if (last !== undefined && last.used < last.buffer.length) return last;
    const size = Math.min(Math.max(bytes, this.length, MIN_PAGE_BYTES), MAX_PAGE_BYTES);
    // Not from Node's pool, which others use, too: a page of it would hold on to their bytes.
    return this.#addPage({ buffer: Buffer.allocUnsafeSlow(size), startsAt: this.length, used: 0 });
  }

  #addPage(page: Page): Page {
    if (this.#pages.length === 0) this.#pages = [page];
    else this.#pages.push(page);
    this.heldBytes += page.buffer.length;
    return page;
  }

  /** Copies all of it, of which nothing may have been dropped. */
  copyTo(target: Buffer, at: number): void {
    for (const { buffer, used, startsAt } of this.#pages) buffer.copy(target, at + startsAt, 0, used);
  }

  /** What there is at `offset`, up to the end of a page; undefined at the end, and for what has been dropped. */
  read(offset: number): Buffer | undefined {
    if (offset < this.start || offset >= this.length) return undefined;
    const pages = this.#pages;
    let low = 0;
    let high = pages.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pages[middle]!.startsAt <= offset) low = middle;
      else high = middle - 1;
    }
    const { buffer, startsAt, used } = pages[low]!;
    return buffer.subarray(offset - startsAt, used);
  }

  /** Lets go of whole pages in front of `offset`. */
  dropBefore(offset: number): void {
    let count = 0;
    for (const { startsAt, used, buffer } of this.#pages) {
      if (startsAt + used > offset || used < buffer.length) break;
      this.heldBytes -= buffer.length;
      count++;
    }
    if (count > 0) this.#pages = this.#pages.slice(count);
  }

  clear(): void {
    this.#pages = NO_PAGES;
    this.heldBytes = 0;
  }
}
