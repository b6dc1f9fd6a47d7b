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
/**
 * First pages up to this size share a block: most answers are short, and a buffer of its own costs the collector more
 * than its bytes. A call that lasts holds on to all of its block, so that blocks are small.
 */
const SHARED_PAGE_MAX_BYTES = 1_024;
const SHARED_BLOCK_BYTES = 8_192;
let sharedBlock: Buffer = Buffer.alloc(0);
let sharedUsed = 0;

/** Of a log without bytes; never written to. */
const NO_PAGES: Page[] = [];

interface Page {
  /** Others may have their part of it. */
  readonly block: Buffer;
  /** Where the page begins in its block. */
  readonly from: number;
  readonly size: number;
  /** Offset of its first byte in the log. */
  readonly startsAt: number;
  used: number;
}

/** Room for so many bytes in a block that others use, too. */
function sharedPage(bytes: number, startsAt: number): Page {
  if (sharedUsed + bytes > sharedBlock.length) {
    sharedBlock = Buffer.allocUnsafeSlow(SHARED_BLOCK_BYTES);
    sharedUsed = 0;
  }
  const page = { block: sharedBlock, from: sharedUsed, size: bytes, startsAt, used: 0 };
  sharedUsed += bytes;
  return page;
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
    while (from < end) {
      const page = this.#pageFor(end - from);
      const bytes = Math.min(end - from, page.size - page.used);
      buffer.copy(page.block, page.from + page.used, from, from + bytes);
      page.used += bytes;
      from += bytes;
      this.length += bytes;
    }
  }

  /** The last page, if it has room, or a new one: for all of `bytes` when it can be, and larger from page to page. */
  #pageFor(bytes: number): Page {
    const last = this.#pages.at(-1);
    if (last !== undefined && last.used < last.size) return last;
    const page =
      last === undefined && bytes <= SHARED_PAGE_MAX_BYTES
        ? sharedPage(bytes, this.length)
        : this.#ownPage(bytes);
    if (this.#pages.length === 0) this.#pages = [page];
    else this.#pages.push(page);
    this.heldBytes += page.size;
    return page;
  }

  #ownPage(bytes: number): Page {
    const size = Math.min(Math.max(bytes, this.length, MIN_PAGE_BYTES), MAX_PAGE_BYTES);
    // Not from Node's pool, which others use, too: a page of it would hold on to their bytes.
    return { block: Buffer.allocUnsafeSlow(size), from: 0, size, startsAt: this.length, used: 0 };
  }

  /** Copies all of it, of which nothing may have been dropped. */
  copyTo(target: Buffer, at: number): void {
    for (const { block, from, used, startsAt } of this.#pages)
      block.copy(target, at + startsAt, from, from + used);
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
    const { block, from, startsAt, used } = pages[low]!;
    return block.subarray(from + offset - startsAt, from + used);
  }

  /** Lets go of whole pages in front of `offset`. */
  dropBefore(offset: number): void {
    let count = 0;
    for (const { startsAt, used, size } of this.#pages) {
      if (startsAt + used > offset || used < size) break;
      this.heldBytes -= size;
      count++;
    }
    if (count > 0) this.#pages = this.#pages.slice(count);
  }

  clear(): void {
    this.#pages = NO_PAGES;
    this.heldBytes = 0;
  }
}
