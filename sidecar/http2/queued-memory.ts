/** A stream whose bytes wait. */
interface QueuedStream {
  readonly sendWindow: number;
  readonly queue: { readonly movedAt: number } | undefined;
  /** Resets it, and forgets what waits. */
  giveUp(): void;
}

/** The streams of one connection whose bytes wait, the one that has moved least lately first. */
export interface QueueHolder extends Iterable<QueuedStream> {
  readonly bytes: number;
  /** As in a queue: when one of them moved. */
  readonly movedAt: number;
}

/** Holds back a window until there is room. */
export interface RoomWaiter {
  onRoom(): void;
}

/** Room for 256 streams with full windows. */
const DEFAULT_MAX_BYTES = 67_108_864;
/** How often it is looked who moves, while there is too little room. */
const DEFAULT_LOOK_MS = 1_000;

/**
 * The memory of the process for bytes that wait for readers, over all connections. A window bounds what waits for
 * one stream, but there may be very many streams.
 *
 *     roomy ──above maxBytes──▶ full ──below maxBytes──▶ roomy
 *                                │
 *                                ├── connections that hold much get no window (receiver.ts): readers who read go on
 *                                ├── streams that have not moved for two seconds are given up, down to half
 *                                └── above twice maxBytes: whatever has moved least lately, at once
 *
 * So who reads at all is served, slowly if need be, and who does not can't hold up its source for others.
 */
class QueuedMemory {
  maxBytes: number;
  lookMs: number;
  bytes = 0;
  /** Bytes that others keep in the same room: frames that wait for their turn (`work-turns.ts`). */
  besides = 0;
  /** Counts the looks: a queue's `movedAt` is the last one before it moved. */
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

  /** Above the bound that holds whatever happens. */
  get crammed(): boolean {
    return this.bytes + this.besides > 2 * this.maxBytes;
  }

  /** `bytes` more wait at this holder, or fewer when negative; `holder.bytes` says so already. */
  count(holder: QueueHolder, bytes: number): void {
    this.bytes += bytes;
    if (holder.bytes === 0) this.holders.delete(holder);
    else if (holder.bytes === bytes) this.holders.add(holder);
    if (!this.full) this.announceRoom();
    else this.timer ??= setTimeout(this.checkAgain, this.lookMs).unref();
  }

  /** While it is full. */
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
   * Gives up what has not moved between three looks, until half of the room is free. A stream that only waits for
   * its turn on a connection that moves has not stalled.
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

  /** The bound that holds whatever happens: takes from the connection for which most waits. */
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
