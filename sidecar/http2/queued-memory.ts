/** A stream with waiting bytes. */
interface QueuedStream {
  readonly sendWindow: number;
  readonly queue: { readonly movedAt: number } | undefined;
  /** Resets the stream, and drops its bytes. */
  giveUp(): void;
}

/** The streams of one connection with waiting bytes, the one whose last progress is oldest first. */
export interface QueueHolder extends Iterable<QueuedStream> {
  readonly bytes: number;
  /** The latest progress of any of them, as in a queue. */
  readonly movedAt: number;
}

/** Holds a window back until there is room. */
export interface RoomWaiter {
  onRoom(): void;
}

/** Room for 256 streams with full windows. */
const DEFAULT_MAX_BYTES = 67_108_864;
/** How often we check which streams make progress, while the memory is full. */
const DEFAULT_LOOK_MS = 1_000;

/**
 * Bounds the memory of the process for bytes that wait for readers, over all connections. A window bounds the bytes of one
 * stream, but there may be very many streams.
 *
 *     roomy ──above maxBytes──▶ full ──below maxBytes──▶ roomy
 *                                │
 *                                ├── connections that hold much receive no window (receive-window.ts)
 *                                ├── streams without progress for two seconds are reset, until half is free
 *                                └── above twice maxBytes: streams of the largest connection are reset at once
 *
 * So a caller that reads at all is served, however slowly, and one that does not read can't delay its source for others.
 */
class QueuedMemory {
  maxBytes: number;
  lookMs: number;
  bytes = 0;
  /** Other bytes in the same memory: frames that wait for their turn (`work-turns.ts`). */
  besides = 0;
  /** The number of checks so far; a queue's `movedAt` is the latest one before its progress. */
  look = 0;
  private readonly holders = new Set<QueueHolder>();
  private readonly waiters = new Set<RoomWaiter>();
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(maxBytes = DEFAULT_MAX_BYTES, lookMs = DEFAULT_LOOK_MS) {
    this.maxBytes = maxBytes;
    this.lookMs = lookMs;
  }

  get full(): boolean {
    return this.bytes > this.maxBytes;
  }

  /** Above the absolute bound. */
  get crammed(): boolean {
    return this.bytes + this.besides > 2 * this.maxBytes;
  }

  /** Counts `bytes` more at this holder, or fewer if negative; `holder.bytes` already includes them. */
  count(holder: QueueHolder, bytes: number): void {
    this.bytes += bytes;
    if (holder.bytes === 0) this.holders.delete(holder);
    else if (holder.bytes === bytes) this.holders.add(holder);
    if (!this.full) this.announceRoom();
    else this.timer ??= setTimeout(this.checkAgain, this.lookMs).unref();
  }

  /** Calls the waiter when there is room again. Call it only while the memory is full. */
  awaitRoom(waiter: RoomWaiter): void {
    this.waiters.add(waiter);
  }

  private announceRoom(): void {
    for (const waiter of this.waiters) {
      this.waiters.delete(waiter);
      waiter.onRoom();
    }
  }

  private readonly checkAgain = (): void => {
    this.timer = undefined;
    this.shedStalled();
    if (this.full) this.timer ??= setTimeout(this.checkAgain, this.lookMs).unref();
  };

  /**
   * Resets streams without progress over three checks, until half of the memory is free. A stream that only waits for its
   * turn, on a connection with progress, has not stalled.
   */
  shedStalled(): void {
    const stalledAt = ++this.look - 3;
    for (const holder of [...this.holders]) {
      for (const stream of holder) {
        if (this.bytes <= this.maxBytes / 2) return;
        const stuck = stream.sendWindow <= 0 || holder.movedAt <= stalledAt;
        if (stuck && stream.queue!.movedAt <= stalledAt) stream.giveUp();
      }
    }
  }

  /** Holds the absolute bound: resets streams of the connection with the most waiting bytes. */
  shedExcess(): void {
    while (this.crammed) {
      let most: QueueHolder | undefined;
      for (const holder of this.holders) if (most === undefined || holder.bytes > most.bytes) most = holder;
      if (most === undefined) return;
      for (const stream of most) {
        stream.giveUp();
        break;
      }
    }
  }
}

export const queuedMemory = new QueuedMemory();
