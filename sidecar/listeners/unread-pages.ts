/**
 * Bounds what the pages of the small HTTP servers hold while their readers don't read. A page of metrics may have several
 * megabytes, and each question at another moment gets another page. The readers of the oldest page give way: they get
 * nothing new either way, and a scraper that reads at all is done long before.
 */
import type { ServerResponse } from 'node:http';

/** Of all servers together. The newest page is held whatever it takes. */
export const MAX_UNREAD_BYTES = 8_388_608;
/** Smaller pages are bounded by the number of connections. */
const SMALL_BYTES = 16_384;

class UnreadPages {
  readonly #maxBytes: number;
  /** By what they hold, the oldest first: readers of one page share its bytes. */
  readonly #readers = new Map<string | Buffer, Set<ServerResponse>>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Held now, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Counts a body until its reader has it, or has left. Call it before the answer ends. */
  hold(body: string | Buffer, response: ServerResponse): void {
    if (body.length < SMALL_BYTES) return;
    let readers = this.#readers.get(body);
    if (readers === undefined) {
      readers = new Set();
      this.#readers.set(body, readers);
      this.#bytes += body.length;
    }
    readers.add(response);
    response.once('close', () => this.#leave(body, response));
    while (this.#bytes > this.#maxBytes && this.#readers.size > 1) this.#endOldest();
  }

  #leave(body: string | Buffer, response: ServerResponse): void {
    const readers = this.#readers.get(body);
    if (readers?.delete(response) !== true || readers.size > 0) return;
    this.#readers.delete(body);
    this.#bytes -= body.length;
  }

  #endOldest(): void {
    const [oldest] = this.#readers;
    const [body, readers] = oldest!;
    this.#readers.delete(body);
    this.#bytes -= body.length;
    for (const response of readers) response.destroy();
  }
}

/** Of the process. */
export const unreadPages = new UnreadPages(MAX_UNREAD_BYTES);
