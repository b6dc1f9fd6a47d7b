/**
 * Feeds the bytes of a provider's connection to Node's parser, no faster than the caller reads the result, and no more in
 * one turn of the event loop than leaves time for other connections (`node/read-turns.ts`).
 *
 * Node itself parses a whole read at once, and a paused answer keeps each chunk as a buffer of its own: with chunks of one
 * byte, that takes two hundred times what has come. Here bytes that must wait stay with the connection, unparsed.
 *
 *     reading ──the caller is full, or no time──▶ put off ──▶ reading
 */
import type { Socket } from 'node:net';
import { LIGHT_MS, type Reader, readTurns } from '../../node/read-turns.ts';
import { Heads } from './one-length.ts';

type OnData = (this: Socket, chunk: Buffer) => void;
interface Wrapper extends OnData {
  /** The wrapped listener: Node removes the wrapper by this property at the end of an answer. */
  listener?: OnData;
}

/** How long one slice may take, where a whole read takes too long. */
const SLICE_MS = 2;
const MIN_SLICE_BYTES = 512;
/** The most bytes of one read. */
export const MAX_READ_BYTES = 65_536;
/** The most bytes at once before the head of the answer: interim answers may stand before it. */
const HEAD_SLICE_BYTES = 4_096;

export interface FeedHandlers {
  /** The parser has handed out all that it was fed. */
  onFed(): void;
  /** So many bytes have come without the head of an answer. */
  onEndlessHead(bytes: number): void;
}

export class ParserFeed implements Reader {
  private readonly socket: Socket;
  private readonly handlers: FeedHandlers;
  private readonly parse: OnData;
  private heads: Heads | undefined = new Heads();
  private sliceBytes = MAX_READ_BYTES;
  private isLight = true;
  private fedBytes = 0;
  private paused = false;
  /** The parser works, and `onFed` follows. */
  isParsing = false;

  /**
   * @param socket the socket to which Node's client has just attached its parser
   * @returns undefined for a socket without one
   */
  static of(socket: Socket, handlers: FeedHandlers): ParserFeed | undefined {
    const parse = socket.listeners('data').at(-1) as OnData | undefined;
    return parse === undefined ? undefined : new ParserFeed(socket, parse, handlers);
  }

  private constructor(socket: Socket, parse: OnData, handlers: FeedHandlers) {
    this.socket = socket;
    this.parse = parse;
    this.handlers = handlers;
    const read: Wrapper = (chunk) => this.read(chunk);
    read.listener = parse;
    socket.removeListener('data', parse);
    socket.on('data', read);
  }

  /** Stops the feed; the parser still finishes what it has. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  private read(chunk: Buffer): void {
    // The rest of a closed connection can't wait for another turn.
    const isLast = this.socket.destroyed;
    if (!isLast && (this.paused || !readTurns.hasTime)) {
      this.putOff(chunk);
      return;
    }
    const isInHead = chunk.length > HEAD_SLICE_BYTES && this.heads?.isPlain(chunk) === false;
    const sliceBytes = isInHead ? HEAD_SLICE_BYTES : this.sliceBytes;
    if (isLast || chunk.length <= sliceBytes) this.feed(chunk);
    else this.slice(chunk, sliceBytes);
  }

  private slice(chunk: Buffer, sliceBytes: number): void {
    const socket = this.socket;
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      if (at > 0 && (this.paused || !readTurns.hasTime)) {
        this.putOff(chunk.subarray(at));
        return;
      }
      this.feed(chunk.subarray(at, at + sliceBytes));
      if (socket.destroyed) return;
      // The answer is whole, and bytes follow that no request asked for.
      if (socket.listenerCount('data') === 0) {
        if (at + sliceBytes < chunk.length) socket.destroy();
        return;
      }
    }
  }

  private feed(chunk: Buffer): void {
    const startMs = performance.now();
    const heads = this.heads;
    let bytes = chunk;
    if (heads !== undefined) {
      bytes = heads.push(chunk);
      if (heads.isOver) this.heads = undefined;
    }
    if (bytes.length > 0) {
      this.isParsing = true;
      this.parse.call(this.socket, bytes);
      this.isParsing = false;
    }
    this.handlers.onFed();
    if (heads?.isEndless === true) this.handlers.onEndlessHead(heads.bytes);
    this.fedBytes = chunk.length;
    this.account(startMs);
  }

  /** Counts the time for what was fed last, from `startMs` until now. */
  account(startMs: number): void {
    const ms = performance.now() - startMs;
    const isLight = ms < LIGHT_MS;
    readTurns.spend(ms, !isLight && !this.isLight);
    this.isLight = isLight;
    if (ms > SLICE_MS)
      this.sliceBytes = Math.max(MIN_SLICE_BYTES, Math.floor((this.fedBytes * SLICE_MS) / ms));
    else if (isLight && this.sliceBytes < MAX_READ_BYTES)
      this.sliceBytes = Math.min(MAX_READ_BYTES, 2 * this.sliceBytes);
  }

  /** Puts bytes back into the connection, before those that follow. */
  private putOff(chunk: Buffer): void {
    this.socket.pause();
    this.socket.unshift(chunk);
    if (!this.paused) readTurns.wait(this, this.isLight);
  }

  goOn(): void {
    if (!this.paused) this.socket.resume();
  }
}
