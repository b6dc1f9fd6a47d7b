/** Keeps the ends of streams for a moment: their caller may not have received them. */
import type { ReplayLog } from './replay-log.ts';
import type { TaskEnd } from './task-end.ts';

/** The most ends at a time; older ones make room for younger ones. */
const ENDED_STREAMS_MAX = 1_024;

/** About what an end takes besides its bytes. */
const RECORD_BYTES = 1_024;

/** The end of a stream: what its caller may not have received of it. */
export interface EndedStream {
  /** The name under which its caller may come back for it. */
  readonly name: string;
  readonly path: string;
  readonly callerScope: string;
  /** Response header fields; undefined for a Trailers-Only answer. */
  readonly head: readonly string[] | undefined;
  /** All bytes from `from` on. */
  readonly log: ReplayLog;
  readonly from: number;
  readonly end: TaskEnd;
  /** The stream that carries the end to its caller; a resumed one has another. */
  carrier: { readonly closed: boolean };
}

interface Kept extends EndedStream {
  /** The carrier was closed at the last look: the time of the end runs out at the next one. */
  wasClosed: boolean;
  lookAtMs: number;
}

/**
 * The ends of streams, oldest first. An end is kept for `keepMs` after its stream has closed, twice that at most, as far as
 * the bounds allow.
 *
 *     ended, and its bytes wait for the reader ──all was sent, or the connection is lost──▶ closed ──keepMs──▶ forgotten
 */
export class EndedStreams {
  private readonly byName = new Map<string, Kept>();
  bytes = 0;

  get size(): number {
    return this.byName.size;
  }

  /** @param maxBytes of all ends */
  add(ended: EndedStream, nowMs: number, keepMs: number, maxBytes: number): void {
    const kept: Kept = { ...ended, wasClosed: false, lookAtMs: nowMs + keepMs };
    const before = this.byName.get(kept.name);
    if (before !== undefined) this.forget(before);
    if (bytesOf(kept) > maxBytes) return;
    this.byName.set(kept.name, kept);
    this.bytes += bytesOf(kept);
    while (this.byName.size > ENDED_STREAMS_MAX || this.bytes > maxBytes) {
      const [oldest] = this.byName.values();
      this.forget(oldest!);
    }
  }

  get(name: string): EndedStream | undefined {
    return this.byName.get(name);
  }

  private forget(kept: Kept): void {
    this.byName.delete(kept.name);
    this.bytes -= bytesOf(kept);
  }

  /** When to call {@link sweep} next; Infinity when nothing is kept. */
  get nextAtMs(): number {
    const [oldest] = this.byName.values();
    return oldest === undefined ? Number.POSITIVE_INFINITY : oldest.lookAtMs;
  }

  /** Forgets what has been kept for long enough. */
  sweep(nowMs: number, keepMs: number): void {
    for (const kept of this.byName.values()) {
      if (kept.lookAtMs > nowMs) return;
      this.forget(kept);
      if (kept.wasClosed) continue;
      this.byName.set(kept.name, kept);
      this.bytes += bytesOf(kept);
      kept.wasClosed = kept.carrier.closed;
      kept.lookAtMs = nowMs + keepMs;
    }
  }
}

function bytesOf({ log }: EndedStream): number {
  return RECORD_BYTES + log.heldBytes;
}
