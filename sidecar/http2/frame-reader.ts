import type { ForeignClient } from './foreign.ts';
import { FRAME_HEADER_BYTES, FrameType, PREFACE, readUint32 } from './frame.ts';
import { workTurns } from './work-turns.ts';

/** What the reader hands over. The buffer is good within the event (`shared-read.ts`): copy what is to stay. */
export interface FrameSink {
  /** Any frame but DATA, whole: `buffer[start, end)` is its payload. */
  onFrame(type: number, flags: number, streamId: number, buffer: Buffer, start: number, end: number): void;
  /**
   * A DATA frame of `frameBytes` payload bytes, of which `buffer[start, end)` is here. When `complete` is false the
   * rest comes through `onDataMore`. A padded frame always comes complete.
   */
  onData(
    streamId: number,
    flags: number,
    frameBytes: number,
    buffer: Buffer,
    start: number,
    end: number,
    complete: boolean,
  ): void;
  onDataMore(buffer: Buffer, start: number, end: number, complete: boolean): void;
  onOversizeFrame(type: number, streamId: number, length: number): void;
  /** The first bytes are not the client preface (RFC 9113 §3.4), but perhaps those of another protocol. */
  onForeignClient(looksLike: ForeignClient): void;
  /** A server's first bytes begin no HTTP/2 frame that it may begin with. Nothing is read behind them. */
  onForeignServer(begins: Buffer): void;
  /** The whole preface came. */
  onPreface(): void;
}

/**
 * Work is counted in quarters of a frame. A frame of DATA takes one: it is passed on in a quarter of a microsecond, where
 * others take one or two.
 */
const FRAME_WORK = 4;
const DATA_WORK = 1;
/**
 * Work that is done at once for one connection: 2,048 frames, or four times as many of DATA; a request is some 10. A turn
 * takes a few milliseconds; a peer that sends large frames never comes to its end.
 */
const TURN_WORK = 2_048 * FRAME_WORK;
/** As much is to be had anew each millisecond: more than calls and tokens come to that are served as they arrive. */
const WORK_PER_MS = 512 * FRAME_WORK;
/** While others wait for their turns, a connection that does not has no more at once: a dozen requests. */
const CROWDED_WORK = 128 * FRAME_WORK;
/** A DATA frame with at least this much of its payload here goes on at once; shorter pieces wait for the rest. */
const CUT_THROUGH_MIN_BYTES = 1_024;
const PADDED = 8;
/** Where a frame's header has its type. */
const TYPE_OFFSET = 3;
/** A record of a handshake, of any version (RFC 8446 §5.1). */
const TLS_HANDSHAKE = '\x16\x03';
const HTTP1_METHODS = [
  'GET ',
  'HEAD ',
  'POST ',
  'PUT ',
  'DELETE ',
  'OPTIONS ',
  'PATCH ',
  'CONNECT ',
  'TRACE ',
];

/**
 * Splits what a socket reads into frames, in place: no object is made for a frame, and no bytes are copied except
 * the beginning of a frame that one read cut in two. A DATA frame is cut through: what is here of it goes on, so
 * that a large message is never gathered.
 *
 * How much is done at once is bounded: `halted` says that frames are left, which `goOn` takes when others have had their
 * turns (`work-turns.ts`).
 */
export class FrameReader {
  private readonly sink: FrameSink;
  private readonly maxFrameBytes: number;
  /** Whether the peer's first bytes are still to be looked at. */
  private begins = true;
  private readonly fromClient: boolean;
  private prefix: Buffer | undefined = undefined;
  private dataLeft = 0;
  private workLeft = TURN_WORK;
  /** The work of a turn is done, and there is more: what is pushed waits, too, until `goOn` has made it false. */
  halted = false;
  /** Set by the sink to make the reader drop everything that still comes. */
  stopped = false;

  /** @param expectPreface whether the peer is a client, which begins with the preface */
  constructor(sink: FrameSink, maxFrameBytes: number, expectPreface: boolean) {
    this.sink = sink;
    this.maxFrameBytes = maxFrameBytes;
    this.fromClient = expectPreface;
  }

  /** @param sinceMs how long the last call was ago */
  push(chunk: Buffer, sinceMs = TURN_WORK): void {
    if (this.stopped) return;
    const most = workTurns.crowded ? CROWDED_WORK : TURN_WORK;
    const earned = sinceMs * WORK_PER_MS;
    this.workLeft = earned >= most ? most : Math.min(most, this.workLeft + Math.floor(earned));
    this.halted ||= this.workLeft <= 0 && !workTurns.full;
    if (this.halted) {
      this.prefix = this.prefix === undefined ? Buffer.from(chunk) : Buffer.concat([this.prefix, chunk]);
      return;
    }
    let buffer = chunk;
    let at = 0;
    if (this.begins) {
      if (this.prefix !== undefined) buffer = Buffer.concat([this.prefix, chunk]);
      this.prefix = undefined;
      at = this.fromClient ? this.readPreface(buffer) : this.readFirstFrameType(buffer);
      if (at < 0) return;
    } else if (this.prefix !== undefined) {
      at = this.finishFrame(this.prefix, chunk);
    }
    at = this.readFrames(buffer, at);
    // One frame that is not cut through, so at most maxFrameBytes and a header; and what a turn has left of a read.
    if (at < buffer.length && !this.stopped) this.prefix = Buffer.from(buffer.subarray(at));
  }

  /** Begins another turn, with the frames that were left. */
  goOn(): void {
    this.workLeft = TURN_WORK;
    const buffer = this.prefix;
    if (!this.halted || buffer === undefined) return;
    this.halted = false;
    const at = this.readFrames(buffer, 0);
    this.prefix = at === buffer.length || this.stopped ? undefined : buffer.subarray(at);
    // A frame that is not whole may have to wait for long, and keeps nothing else alive.
    if (this.prefix !== undefined && !this.halted) this.prefix = Buffer.from(this.prefix);
  }

  /** The work of a turn is done, whether or not there is more. */
  get workDone(): boolean {
    return this.halted || this.workLeft <= 0;
  }

  /** A frame has cost more than others: as much as so many of them. */
  spend(frames: number): void {
    this.workLeft -= frames * FRAME_WORK;
  }

  /** Bytes that wait for the next turn, or for the rest of their frame. */
  get heldBytes(): number {
    return this.prefix?.length ?? 0;
  }

  /** Reads the frame that began with `prefix`, as far as it is here. Answers how much of `chunk` belongs to it. */
  private finishFrame(prefix: Buffer, chunk: Buffer): number {
    let frame = prefix;
    let at = 0;
    if (frame.length < FRAME_HEADER_BYTES) {
      at = Math.min(FRAME_HEADER_BYTES - frame.length, chunk.length);
      frame = Buffer.concat([frame, chunk.subarray(0, at)]);
    }
    if (frame.length >= FRAME_HEADER_BYTES) {
      const wholeBytes = FRAME_HEADER_BYTES + ((frame[0]! << 16) | (frame[1]! << 8) | frame[2]!);
      // One that is too large is refused by its header alone.
      const missing = Math.min(wholeBytes - frame.length, this.maxFrameBytes, chunk.length - at);
      if (missing > 0) frame = Buffer.concat([frame, chunk.subarray(at, at + missing)]);
      at += missing;
    }
    this.prefix = this.readFrames(frame, 0) < frame.length ? frame : undefined;
    return at;
  }

  /** Offset behind the preface, or -1 when there is nothing more to read now. */
  private readPreface(buffer: Buffer): number {
    const length = Math.min(PREFACE.length, buffer.length);
    if (buffer.compare(PREFACE, 0, length, 0, length) !== 0) {
      const text = buffer.toString('latin1', 0, Math.min(buffer.length, 8));
      if (HTTP1_METHODS.some((method) => method.length > text.length && method.startsWith(text))) {
        this.prefix = Buffer.from(buffer);
        return -1;
      }
      this.stopped = true;
      const http1 = HTTP1_METHODS.some((method) => text.startsWith(method));
      this.sink.onForeignClient(http1 ? 'http1' : text.startsWith(TLS_HANDSHAKE) ? 'tls' : 'nothing known');
      return -1;
    }
    if (length < PREFACE.length) {
      this.prefix = Buffer.from(buffer);
      return -1;
    }
    this.begins = false;
    this.sink.onPreface();
    return length;
  }

  /** 0 when a server begins with a frame, whatever it is worth; -1 when there is nothing more to read now. */
  private readFirstFrameType(buffer: Buffer): number {
    if (buffer.length <= TYPE_OFFSET) {
      this.prefix = Buffer.from(buffer);
      return -1;
    }
    this.begins = false;
    const tls = buffer[0]! >= 0x14 && buffer[0]! <= 0x17 && buffer[1] === 0x03;
    if (buffer[TYPE_OFFSET]! <= FrameType.CONTINUATION && !tls) return 0;
    this.stopped = true;
    this.sink.onForeignServer(buffer);
    return -1;
  }

  private readFrames(buffer: Buffer, from: number): number {
    const sink = this.sink;
    const length = buffer.length;
    let at = from;
    if (this.dataLeft > 0) {
      const bytes = Math.min(this.dataLeft, length - at);
      this.dataLeft -= bytes;
      at += bytes;
      if (bytes > 0) sink.onDataMore(buffer, at - bytes, at, this.dataLeft === 0);
    }
    while (length - at >= FRAME_HEADER_BYTES && !this.stopped) {
      if (this.workLeft <= 0 && !workTurns.full) {
        this.halted = true;
        return at;
      }
      const payloadBytes = (buffer[at]! << 16) | (buffer[at + 1]! << 8) | buffer[at + 2]!;
      const type = buffer[at + 3]!;
      this.workLeft -= type === FrameType.DATA && payloadBytes > 0 ? DATA_WORK : FRAME_WORK;
      const flags = buffer[at + 4]!;
      // The reserved bit is to be ignored (RFC 9113 §4.1).
      const streamId = readUint32(buffer, at + 5) & 0x7fffffff;
      if (payloadBytes > this.maxFrameBytes) {
        this.stopped = true;
        sink.onOversizeFrame(type, streamId, payloadBytes);
        return length;
      }
      const start = at + FRAME_HEADER_BYTES;
      const end = start + payloadBytes;
      if (end > length) {
        const here = length - start;
        if (type !== FrameType.DATA || here < CUT_THROUGH_MIN_BYTES || (flags & PADDED) !== 0) return at;
        this.dataLeft = payloadBytes - here;
        sink.onData(streamId, flags, payloadBytes, buffer, start, length, false);
        return length;
      }
      at = end;
      if (type === FrameType.DATA) sink.onData(streamId, flags, payloadBytes, buffer, start, end, true);
      else sink.onFrame(type, flags, streamId, buffer, start, end);
    }
    return at;
  }
}
