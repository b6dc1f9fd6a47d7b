import { ErrorCode } from './frame.ts';
import { HeldByCaller, type HeldByConnection, type HeldStream } from './held-by-caller.ts';
import type { HeaderList } from './hpack/header-list.ts';

/** What a stream and its call cost beside header fields and bytes. */
const STREAM_BYTES = 4_096;
/** What the queue of an answer costs that is not read, however little is in it. */
const QUEUE_BYTES = 4_608;
/** What a field costs beside what it counts in a header list: two places in an array, and the heads of two strings. */
const FIELD_BYTES = 32;
/**
 * What all requests that wait may hold, in bytes: 1,024 calls of a gateway, each with 64 KiB of its first message, and some
 * room for others. With settings that let more calls wait, it is more.
 */
export const MIN_HELD_BYTES = 75_497_472;
/** Beyond that, of header blocks whose end has not come. */
const OPEN_BLOCKS_BYTES = 1_048_576;
const DEFAULT_LOOK_MS = 1_000;
/** A request of which nothing has come for so long gives way to a newer one of its own connection. */
const STILL_MS = 1_000;
/** While half of the room is in use, so long may a request wait for its caller to go on. */
const PATIENCE_MS = 10_000;
/** From the first frame of a header block to its last. */
const BLOCK_PATIENCE_MS = 10_000;
/** While there is no room, so much is kept of a list of who holds most: enough to know how to answer. */
const OVERDRAWN_LIST_BYTES = 1_024;

/** What a decoded header list costs in memory. A list that the connection repeats is there once for all its calls. */
export function headBytes({ shared, listBytes, fields }: HeaderList): number {
  return shared ? 0 : listBytes + FIELD_BYTES * (fields.length >> 1);
}

/**
 * The memory of the process for requests that nobody has begun to work on, over all callers and listeners: their heads, and what
 * has come of their messages. A request counts from its HEADERS on until an endpoint has it, and again when it is answered
 * and its caller does not read the answer. Those that endpoints work on are bounded by `max_concurrent_calls`.
 *
 *     room ──above maxBytes──▶ no room: of the caller with most, of its connection with most, goes
 *      ▲                         the newest request, or one of which nothing has come for a second
 *      └──────────────────────── a look each second, above half: those go whose callers have been still for ten
 *
 * So a caller is turned away for what it holds itself, and never for what others do. Its newest request goes first, because
 * what has just come costs the collector nothing.
 */
class HeldRequests {
  maxBytes: number;
  lookMs: number;
  /** Held now. */
  bytes = 0;
  /** Requests that had to go for want of room. */
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

  /** So much too full that open header blocks must go, too: otherwise they become requests, the newest of which goes. */
  get crowded(): boolean {
    return this.bytes > this.maxBytes + OPEN_BLOCKS_BYTES;
  }

  /** A connection of this caller counts with the caller's others. @param name an identity, or an address */
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

  /** The connection has ended, and its streams before. */
  leave(held: HeldByConnection): void {
    this.holdBlock(held, 0);
    const { caller } = held;
    if (caller === undefined) return;
    held.caller = undefined;
    caller.bytes -= held.bytes;
    caller.connections.delete(held);
    if (caller.connections.size === 0) this.callers.delete(caller.name);
  }

  /** A request begins. */
  begin(stream: HeldStream, list: HeaderList): void {
    stream.heldBytes = STREAM_BYTES + headBytes(list);
    this.hold(stream);
  }

  /** Nobody works on the stream's request, or any more. Does nothing when it is held, or closed. */
  hold(stream: HeldStream): void {
    if (stream.held || stream.closed) return;
    stream.held = true;
    if (stream.queue !== undefined) stream.heldBytes += QUEUE_BYTES;
    stream.connection.held.append(stream);
    this.count(stream.connection.held, stream.heldBytes);
  }

  /** An endpoint has the request, or it is over. */
  pass(stream: HeldStream): void {
    if (!stream.held) return;
    stream.held = false;
    stream.connection.held.remove(stream);
    this.count(stream.connection.held, -stream.heldBytes);
  }

  /** Bytes of the request's messages are kept, or not any more (negative). */
  add(stream: HeldStream, bytes: number): void {
    stream.heldBytes += bytes;
    if (stream.held) this.count(stream.connection.held, bytes);
  }

  /** More of the request has come, or it waits for something else now. */
  moved(stream: HeldStream): void {
    if (!stream.held) return;
    const { held } = stream.connection;
    held.remove(stream);
    held.append(stream);
  }

  /** What is kept of a header block whose end has not come: so many bytes now, 0 when it is over. */
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

  /** Makes room until there is some. @param newest the request that has brought the last bytes, if one has */
  makeRoom(newest: HeldStream | undefined): void {
    while (this.full) {
      const caller = this.largest();
      const victim = caller?.stillest;
      if (victim === undefined) return;
      const { stillest } = victim;
      // A block can't be answered by itself: what is dropped of it would be missed by those behind it.
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
    // Whatever has become of it: who makes room must come to an end.
    this.pass(stream);
  }

  private endBlock(held: HeldByConnection): void {
    const message =
      'a header block does not come to its end, and too much waits; send fewer or shorter fields';
    held.connection.fail('peer', ErrorCode.ENHANCE_YOUR_CALM, message);
    this.holdBlock(held, 0);
  }

  /**
   * The largest list (RFC 9113 §6.5.2) that is decoded for this connection now. Of who has just found no room, and would find
   * none for the next one, only the beginning is kept.
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

  /** Those who hold most come first, and half of the room is enough. */
  private endStill(): void {
    const all = [...this.callers.values()].sort((one, other) => other.bytes - one.bytes);
    for (const { connections } of all)
      for (const held of [...connections].sort((one, other) => other.bytes - one.bytes)) {
        const nowMs = held.connection.clock();
        for (let stream = held.stillest; stream !== undefined; stream = held.stillest) {
          if (2 * this.bytes <= this.maxBytes) return;
          if (nowMs - stream.heldSinceMs < PATIENCE_MS) break;
          // What waits for its turn here has clocks of its own.
          if (stream.awaitsCaller) this.refuse(stream);
          else this.moved(stream);
        }
      }
  }
}

export const heldRequests = new HeldRequests();
