/** Divides the bytes of a socket into frames, and checks their lengths and streams. */
import type { ForeignClient } from './foreign.ts';
import { FRAME_HEADER_BYTES, FrameType, PREFACE, readUint32 } from './frame.ts';
import { workTurns } from './work-turns.ts';

/** Receives the frames. A buffer is valid only within the event (`shared-read.ts`): copy bytes that you keep. */
export interface FrameSink {
  /** A whole frame other than DATA: `buffer[start, end)` is its payload. */
  onFrame(type: number, flags: number, streamId: number, buffer: Buffer, start: number, end: number): void;
  /**
   * A DATA frame with `frameBytes` bytes of payload, of which `buffer[start, end)` has arrived. If `complete` is false,
   * `onDataMore` receives the rest. A padded frame is always complete.
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
  /** The first bytes are not the client preface (RFC 9113 §3.4), but may belong to another protocol. */
  onForeignClient(looksLike: ForeignClient): void;
  /** A server's first bytes begin no HTTP/2 frame. The reader drops all further bytes. */
  onForeignServer(begins: Buffer): void;
  /** The whole preface has arrived. */
  onPreface(): void;
}

/**
 * The unit of work is a quarter of a frame. A DATA frame takes one unit: passing it on takes a quarter of a microsecond, and
 * other frames take one or two microseconds.
 */
const FRAME_WORK = 4;
const DATA_WORK = 1;
/**
 * The work that one connection may cause at once: 2,048 frames, or four times as many DATA frames; a request is some 10. A
 * turn takes a few milliseconds; a peer that sends large frames never uses all of it.
 */
const TURN_WORK = 2_048 * FRAME_WORK;
/** The work added each millisecond, which is more than calls and tokens cause that are served as they arrive. */
const WORK_PER_MS = 512 * FRAME_WORK;
/** The work at once of a connection while others wait for their turns: a dozen requests. */
const CROWDED_WORK = 128 * FRAME_WORK;
/** A DATA frame passes at once if at least this much of its payload has arrived; shorter pieces wait for the rest. */
const CUT_THROUGH_MIN_BYTES = 1_024;
const PADDED = 8;
/** The offset of the type in a frame's header. */
const TYPE_OFFSET = 3;
/** The first bytes of a handshake record, of any version (RFC 8446 §5.1). */
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
 * Splits the reads of a socket into frames, in place: it makes no object for a frame, and copies no bytes except the beginning
 * of a frame that ends in a later read. It passes the available part of a DATA frame at once, so that no large message is
 * gathered.
 *
 * It bounds the work done at once: `halted` means that frames are left, which `goOn` processes after other connections have
 * had their turns (`work-turns.ts`).
 */
export class FrameReader {
  private readonly sink: FrameSink;
  private readonly maxFrameBytes: number;
  /** Whether the peer's first bytes have yet to be examined. */
  private begins = true;
  private readonly fromClient: boolean;
  private prefix: Buffer | undefined = undefined;
  private dataLeft = 0;
  private workLeft = TURN_WORK;
  /** The work of a turn is done, and frames are left: further reads wait, too, until `goOn` resets it. */
  halted = false;
  /** The sink sets it to make the reader drop all further bytes. */
  stopped = false;

  /** @param expectPreface true for a client's connection, which begins with the preface */
  constructor(sink: FrameSink, maxFrameBytes: number, expectPreface: boolean) {
    this.sink = sink;
    this.maxFrameBytes = maxFrameBytes;
    this.fromClient = expectPreface;
  }

  /** @param sinceMs the time since the latest call */
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
    // An incomplete frame, of at most maxFrameBytes and a header, or the frames that a turn has left of a read.
    if (at < buffer.length && !this.stopped) this.prefix = Buffer.from(buffer.subarray(at));
  }

  /** Begins another turn, with the frames that are left. */
  goOn(): void {
    this.workLeft = TURN_WORK;
    const buffer = this.prefix;
    if (!this.halted || buffer === undefined) return;
    this.halted = false;
    const at = this.readFrames(buffer, 0);
    this.prefix = at === buffer.length || this.stopped ? undefined : buffer.subarray(at);
    // An incomplete frame may wait for long, so it must keep no other memory alive.
    if (this.prefix !== undefined && !this.halted) this.prefix = Buffer.from(this.prefix);
  }

  /** Whether the work of a turn is done, even if no frames are left. */
  get workDone(): boolean {
    return this.halted || this.workLeft <= 0;
  }

  /** Counts the additional work of a frame, as a number of frames. */
  spend(frames: number): void {
    this.workLeft -= frames * FRAME_WORK;
  }

  /** The bytes that wait for the next turn, or for the rest of their frame. */
  get heldBytes(): number {
    return this.prefix?.length ?? 0;
  }

  /** Reads the available part of the frame that began with `prefix`. @returns how many bytes of `chunk` belong to it */
  private finishFrame(prefix: Buffer, chunk: Buffer): number {
    let frame = prefix;
    let at = 0;
    if (frame.length < FRAME_HEADER_BYTES) {
      at = Math.min(FRAME_HEADER_BYTES - frame.length, chunk.length);
      frame = Buffer.concat([frame, chunk.subarray(0, at)]);
    }
    if (frame.length >= FRAME_HEADER_BYTES) {
      const wholeBytes = FRAME_HEADER_BYTES + ((frame[0]! << 16) | (frame[1]! << 8) | frame[2]!);
      // `readFrames` refuses a frame that is too large by its header alone.
      const missing = Math.min(wholeBytes - frame.length, this.maxFrameBytes, chunk.length - at);
      if (missing > 0) frame = Buffer.concat([frame, chunk.subarray(at, at + missing)]);
      at += missing;
    }
    this.prefix = this.readFrames(frame, 0) < frame.length ? frame : undefined;
    return at;
  }

  /** Returns the offset after the preface, or -1 if there is nothing more to read now. */
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

  /** Returns 0 if a server begins with a frame, of any type; -1 if there is nothing more to read now. */
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
      // We ignore the reserved bit (RFC 9113 §4.1).
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
