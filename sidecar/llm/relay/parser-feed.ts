/**
 * Gives the bytes of a provider's connection to Node's parser, no faster than the caller takes what comes out of it, and
 * no more in one turn of the event loop than leaves time for everybody else (`clock/read-turns.ts`).
 *
 * Node's own way is to parse a whole read at once, and to let a paused answer keep each chunk of it as a buffer of its own:
 * of chunks of one byte that is two hundred times what has come. Here bytes that can't be worked on yet stay with the
 * connection, unparsed.
 *
 *     reading ──the caller is full, or no time──▶ put off ──▶ reading
 */
import type { Socket } from 'node:net';
import { LIGHT_MS, type Reader, readTurns } from '../../node/read-turns.ts';
import { Heads } from './one-length.ts';

type OnData = (this: Socket, chunk: Buffer) => void;
interface Wrapper extends OnData {
  /** What it wraps: `removeListener` takes a wrapper away by this, which Node does at the end of an answer. */
  listener?: OnData;
}

/** What is parsed at once while a whole read takes too long. */
const SLICE_MS = 2;
const MIN_SLICE_BYTES = 512;
/** A read is no longer. */
export const MAX_READ_BYTES = 65_536;
/** Until the head of the answer is here: interim answers may stand before it. */
const HEAD_SLICE_BYTES = 4_096;

export interface FeedHandlers {
  /** The parser has given all of what it was fed. */
  onFed(): void;
  /** So much has come, and no head of an answer yet. */
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
  /** The parser is at work, and `onFed` follows. */
  isParsing = false;

  /**
   * @param socket to which Node's client has just given its parser
   * @returns undefined when it has none
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

  /** Nothing more is parsed, though what is being parsed comes to its end. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.socket.resume();
  }

  private read(chunk: Buffer): void {
    // What is left of a connection that has closed has no other time.
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
      // The answer is whole, and something follows it that nobody has asked for.
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

  /** What was fed last has been worked on, from then until now. */
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

  /** It stays with the connection, before what comes behind it. */
  private putOff(chunk: Buffer): void {
    this.socket.pause();
    this.socket.unshift(chunk);
    if (!this.paused) readTurns.wait(this, this.isLight);
  }

  goOn(): void {
    if (!this.paused) this.socket.resume();
  }
}
