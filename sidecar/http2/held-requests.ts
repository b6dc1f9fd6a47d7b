/** Bounds the memory of all running requests together, and chooses the one that has to give way. */
import { ErrorCode } from './frame.ts';
import { HeldByCaller, type HeldByConnection, type HeldStream } from './held-by-caller.ts';
import type { HeaderList } from './hpack/header-list.ts';

/** The memory of a stream and its call beside header fields and bytes. */
const STREAM_BYTES = 4_096;
/** The memory of the queue of an unread answer, however short it is. */
const QUEUE_BYTES = 4_608;
/** The memory of a field beyond its size in a header list: two places in an array, and the heads of two strings. */
const FIELD_BYTES = 32;
/**
 * The bytes that all waiting requests may hold: 1,024 calls of a gateway, each with 64 KiB of its first message, and some room
 * for other calls. It is more with settings that let more calls wait.
 */
export const MIN_HELD_BYTES = 75_497_472;
/** The additional bytes of incomplete header blocks. */
const OPEN_BLOCKS_BYTES = 1_048_576;
const DEFAULT_LOOK_MS = 1_000;
/** A request that has received nothing for this long ends before a newer one of its own connection. */
const STILL_MS = 1_000;
/** The time that a request may wait for its caller while half of the memory is in use. */
const PATIENCE_MS = 10_000;
/** The time from the first frame of a header block to its last. */
const BLOCK_PATIENCE_MS = 10_000;
/** The bytes of a list that we keep for the largest holder while no memory is left: enough to answer it. */
const OVERDRAWN_LIST_BYTES = 1_024;

/** The memory of a decoded header list. All calls of a connection share a list that it repeats. */
export function headBytes({ shared, listBytes, fields }: HeaderList): number {
  return shared ? 0 : listBytes + FIELD_BYTES * (fields.length >> 1);
}

/**
 * Bounds the memory of the process for requests that no endpoint has yet, over all callers and listeners: their heads, and the
 * received parts of their messages. A request counts from its HEADERS until an endpoint has it, and again when it is answered
 * and its caller does not read the answer. `max_concurrent_calls` bounds the requests that endpoints work on.
 *
 *     room ──above maxBytes──▶ no room: ends requests of the largest caller, on its largest connection:
 *      ▲                         the newest one, or one that has received nothing for a second
 *      └──────────────────────── a check each second, above half: ends requests whose callers were silent for ten seconds
 *
 * So a caller loses requests for the memory that it holds itself, and never for that of others. Its newest request ends first,
 * because the garbage collector frees new memory at no cost.
 */
class HeldRequests {
  maxBytes: number;
  lookMs: number;
  /** The bytes held now. */
  bytes = 0;
  /** The requests ended for lack of memory. */
  refused = 0;
  private readonly callers = new Map<string, HeldByCaller>();
  private readonly openBlocks = new Set<HeldByConnection>();
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(maxBytes = MIN_HELD_BYTES, lookMs = DEFAULT_LOOK_MS) {
    this.maxBytes = maxBytes;
    this.lookMs = lookMs;
  }

  get full(): boolean {
    return this.bytes > this.maxBytes;
  }

  /** So full that incomplete header blocks must end, too. Below this they become requests, which end in turn. */
  get crowded(): boolean {
    return this.bytes > this.maxBytes + OPEN_BLOCKS_BYTES;
  }

  /** Counts a connection with the others of its caller. @param name an identity or an address */
  join(held: HeldByConnection, name: string): void {
    let caller = this.callers.get(name);
    if (caller === undefined) {
      caller = new HeldByCaller(name);
      this.callers.set(name, caller);
    }
    held.caller = caller;
    caller.connections.add(held);
    caller.bytes += held.bytes;
  }

  /** Removes a connection that has ended, after its streams. */
  leave(held: HeldByConnection): void {
    this.holdBlock(held, 0);
    const { caller } = held;
    if (caller === undefined) return;
    held.caller = undefined;
    caller.bytes -= held.bytes;
    caller.connections.delete(held);
    if (caller.connections.size === 0) this.callers.delete(caller.name);
  }

  /** Counts a new request. */
  begin(stream: HeldStream, list: HeaderList): void {
    stream.heldBytes = STREAM_BYTES + headBytes(list);
    this.hold(stream);
  }

  /** Counts a request that no endpoint works on, or no longer. Does nothing if it counts already, or has closed. */
  hold(stream: HeldStream): void {
    if (stream.held || stream.closed) return;
    stream.held = true;
    if (stream.queue !== undefined) stream.heldBytes += QUEUE_BYTES;
    stream.connection.held.append(stream);
    this.count(stream.connection.held, stream.heldBytes);
  }

  /** Stops counting a request that an endpoint has, or that has ended. */
  pass(stream: HeldStream): void {
    if (!stream.held) return;
    stream.held = false;
    stream.connection.held.remove(stream);
    this.count(stream.connection.held, -stream.heldBytes);
  }

  /** Counts bytes kept of the request's messages; negative when they are released. */
  add(stream: HeldStream, bytes: number): void {
    stream.heldBytes += bytes;
    if (stream.held) this.count(stream.connection.held, bytes);
  }

  /** More of the request has arrived, or it now waits for something else. */
  moved(stream: HeldStream): void {
    if (!stream.held) return;
    const { held } = stream.connection;
    held.remove(stream);
    held.append(stream);
  }

  /** Sets the bytes kept of an incomplete header block; 0 when it is complete. */
  holdBlock(held: HeldByConnection, bytes: number): void {
    if (bytes === held.blockBytes) return;
    if (bytes === 0) this.openBlocks.delete(held);
    else if (held.blockBytes === 0) {
      held.blockBeganAtMs = held.connection.clock();
      this.openBlocks.add(held);
      this.scheduleCheck();
    }
    this.count(held, bytes - held.blockBytes);
    held.blockBytes = bytes;
  }

  private count(held: HeldByConnection, bytes: number): void {
    held.bytes += bytes;
    if (held.caller !== undefined) held.caller.bytes += bytes;
    this.bytes += bytes;
    if (this.timer === undefined && 2 * this.bytes > this.maxBytes) this.scheduleCheck();
  }

  /** Ends requests until there is room. @param newest the request that brought the latest bytes, if any */
  makeRoom(newest: HeldStream | undefined): void {
    while (this.full) {
      const caller = this.largest();
      const victim = caller?.stillest;
      if (victim === undefined) return;
      const { stillest } = victim;
      // We can't answer a single block, because later blocks need the table entries that it makes.
      if (stillest === undefined || 2 * victim.blockBytes > victim.bytes) {
        this.endBlock(victim);
        continue;
      }
      const own = newest?.held === true && caller!.connections.has(newest.connection.held);
      const fresh = victim.connection.clock() - stillest.heldSinceMs < STILL_MS;
      if (own && fresh && 2 * newest.connection.held.bytes >= victim.bytes) {
        newest.connection.held.overdrawn = true;
        this.refuse(newest);
      } else this.refuse(stillest);
    }
  }

  private largest(): HeldByCaller | undefined {
    let most: HeldByCaller | undefined;
    for (const caller of this.callers.values())
      if (caller.bytes > 0 && (most === undefined || caller.bytes > most.bytes)) most = caller;
    return most;
  }

  private refuse(stream: HeldStream): void {
    this.refused++;
    stream.refuseForRoom();
    // Even if the handler kept the stream: this loop must end.
    this.pass(stream);
  }

  private endBlock(held: HeldByConnection): void {
    const message = 'a header block stays incomplete, and memory is short; send fewer or shorter fields';
    held.connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
    this.holdBlock(held, 0);
  }

  /**
   * The largest list (RFC 9113 §6.5.2) that we decode for this connection now. We keep only the beginning for a connection whose
   * latest request found no room, and whose next one would find none.
   */
  maxListBytes(held: HeldByConnection, usual: number): number {
    if (!held.overdrawn) return usual;
    held.overdrawn = this.bytes + 4 * usual > this.maxBytes;
    return held.overdrawn ? Math.min(usual, OVERDRAWN_LIST_BYTES) : usual;
  }

  private scheduleCheck(): void {
    this.timer ??= setTimeout(this.checkAgain, this.lookMs).unref();
  }

  private readonly checkAgain = (): void => {
    this.timer = undefined;
    for (const held of [...this.openBlocks])
      if (held.connection.clock() - held.blockBeganAtMs >= BLOCK_PATIENCE_MS) this.endBlock(held);
    if (2 * this.bytes > this.maxBytes) this.endStill();
    if (2 * this.bytes > this.maxBytes || this.openBlocks.size > 0) this.scheduleCheck();
  };

  /** Ends requests of silent callers, those of the largest callers first, until half of the memory is free. */
  private endStill(): void {
    const all = [...this.callers.values()].sort((one, other) => other.bytes - one.bytes);
    for (const { connections } of all)
      for (const held of [...connections].sort((one, other) => other.bytes - one.bytes)) {
        const nowMs = held.connection.clock();
        for (let stream = held.stillest; stream !== undefined; stream = held.stillest) {
          if (2 * this.bytes <= this.maxBytes) return;
          if (nowMs - stream.heldSinceMs < PATIENCE_MS) break;
          // A request that waits for its turn has time limits of its own.
          if (stream.awaitsCaller) this.refuse(stream);
          else this.moved(stream);
        }
      }
  }
}

export const heldRequests = new HeldRequests();
