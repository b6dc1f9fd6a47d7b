/**
 * Bounds the memory of pages that the clients of the small HTTP servers don't read. A page of metrics may have several
 * megabytes, and requests at different moments get different pages. Above the bound, the connections that read the oldest
 * page are closed: a scraper that reads at all has finished long before.
 */
import type { ServerResponse } from 'node:http';

/** The bound for all servers together. The newest page is kept whatever its size. */
export const MAX_UNREAD_BYTES = 8_388_608;
/** Smaller pages are bounded by the number of connections. */
const SMALL_BYTES = 16_384;

class UnreadPages {
  private readonly maxBytes: number;
  /** Page → the responses that send it, the oldest page first. Readers of one page share its bytes. */
  private readonly readers = new Map<string | Buffer, Set<ServerResponse>>();
  private bytes = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** Counts a body until its reader has received it or disconnected. Call it before the answer ends. */
  hold(body: string | Buffer, response: ServerResponse): void {
    if (body.length < SMALL_BYTES) return;
    let readers = this.readers.get(body);
    if (readers === undefined) {
      readers = new Set();
      this.readers.set(body, readers);
      this.bytes += body.length;
    }
    readers.add(response);
    response.once('close', () => this.leave(body, response));
    while (this.bytes > this.maxBytes && this.readers.size > 1) this.endOldest();
  }

  private leave(body: string | Buffer, response: ServerResponse): void {
    const readers = this.readers.get(body);
    if (readers?.delete(response) === true && readers.size === 0) this.forget(body);
  }

  private endOldest(): void {
    const [oldest] = this.readers;
    const [body, readers] = oldest!;
    this.forget(body);
    for (const response of readers) response.destroy();
  }

  private forget(body: string | Buffer): void {
    this.readers.delete(body);
    this.bytes -= body.length;
  }
}

/** One for the process. */
export const unreadPages = new UnreadPages(MAX_UNREAD_BYTES);
