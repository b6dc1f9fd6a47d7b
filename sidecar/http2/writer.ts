/** Writes frames into buffers, and buffers to the socket. */
import type { Socket } from 'node:net';
import { type Flushable, markDirty } from './flush-queue.ts';
import { FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from './frame.ts';

/** Room for the bytes of one read (`shared-read.ts`) with their frame headers, so that they leave in one write. */
const SLAB_BYTES = 147_456;
/** Room for a few heads and short messages, which a hundred connections may write at the same time. */
const SMALL_SLAB_BYTES = 4_096;
/** The least room of a slab that we continue to fill while the kernel reads from it. */
const SLAB_MIN_ROOM = 8_192;
/** Up to this size a loop is faster than the native call of Buffer.copy. */
const LOOP_MAX_BYTES = 96;
/** Above this we write gathered output to the socket before we gather more. */
const GATHER_MAX_BYTES = 65_536;

/** Slabs that the kernel has finished with. Only a connection with output holds one, so idle connections hold none. */
const spareSlabs: Buffer[] = [];
const spareSmallSlabs: Buffer[] = [];
/** The most spare slabs: 4.5 MiB, and 4 MiB. With fewer than are used at once, each round would allocate. */
const SPARE_SLABS_MAX = 32;
const SPARE_SMALL_SLABS_MAX = 1_024;
const NO_SLAB: Buffer = Buffer.alloc(0);

/** Is told what goes to the socket. No method may throw. */
export interface WriteTap {
  /** All output since the last time: whole frames, first those in `segments`. Copy bytes that you keep. */
  onFlush(segments: readonly Buffer[], slab: Buffer, start: number, end: number): void;
}

/** Has output that can wait for other output, in whose write it goes. */
export interface WriteRider {
  /** Output is about to leave: write yours. */
  onWrite(): void;
}

/**
 * The output side of a connection. It appends frames in a slab, which leave in one write at the end of the event that caused
 * them (`flush-queue.ts`). It uses the slab again when the kernel has taken all of it.
 *
 * It copies payloads: 16 KiB take a microsecond, less than Node's write of several pieces, which over TLS copies them anyway.
 * So the buffer that they were read into is free again at once (`shared-read.ts`).
 */
export class FrameWriter implements Flushable {
  queued = false;
  /** The socket is full: DATA waits until `onDrain`. */
  blocked = false;
  /** The HEADERS and DATA frames so far, which show whether calls progress. */
  callFrames = 0;
  /** The bytes of control frames since the socket is full: answers that the peer requests and does not read. */
  controlBytes = 0;
  tap: WriteTap | undefined = undefined;
  rider: WriteRider | undefined = undefined;

  private readonly socket: Socket;
  /** The end of a write over TLS, in a later turn of the event loop. Without TLS writes end at once, or with `drain`. */
  private readonly onWritten: (() => void) | undefined = undefined;
  /** Full slabs, which we use again when all output was written. */
  private readonly full: Buffer[] = [];
  private slab: Buffer = NO_SLAB;
  private start = 0;
  private offset = 0;
  private readonly segments: Buffer[] = [];
  private segmentBytes = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    if ('encrypted' in socket) this.onWritten = () => this.giveBack();
  }

  /** The socket has room again. */
  onDrain(): void {
    this.blocked = false;
    this.controlBytes = 0;
    this.giveBack();
  }

  /** Returns the slabs to the spare ones, if all output was written and the kernel has read it. */
  private giveBack(): void {
    if (this.offset > this.start || this.segments.length > 0 || this.socket.writableLength > 0) return;
    spare(this.slab);
    while (this.full.length > 0) spare(this.full.pop()!);
    this.slab = NO_SLAB;
    this.start = 0;
    this.offset = 0;
  }

  /** Writes the gathered output if it is enough for a write of its own, so that `blocked` is set in time. */
  relieve(): void {
    if (this.pendingBytes > GATHER_MAX_BYTES) this.flush();
  }

  /** The bytes gathered and not yet written to the socket. */
  get pendingBytes(): number {
    return this.segmentBytes + this.offset - this.start;
  }

  private reserve(bytes: number): void {
    if (this.offset + bytes > this.slab.length) this.grow(bytes);
    if (!this.queued) markDirty(this);
  }

  private grow(bytes: number): void {
    const { slab, start, offset, socket } = this;
    if (slab.length > SMALL_SLAB_BYTES) {
      this.sealSlab();
      this.leave(slab);
      this.slab = takeSlab(Math.max(bytes, SLAB_BYTES));
      this.start = 0;
      this.offset = 0;
      return;
    }
    const next = takeSlab(offset - start + bytes);
    slab.copy(next, 0, start, offset);
    if (slab.length > 0 && (socket.writableLength > 0 || this.segments.length > 0)) this.leave(slab);
    else spare(slab);
    this.slab = next;
    this.start = 0;
    this.offset = offset - start;
  }

  /** Leaves a slab to the kernel until it has read all output. */
  private leave(slab: Buffer): void {
    if (this.full.length < SPARE_SLABS_MAX) this.full.push(slab);
  }

  private sealSlab(): void {
    if (this.offset > this.start) {
      this.segmentBytes += this.offset - this.start;
      this.segments.push(this.slab.subarray(this.start, this.offset));
      this.start = this.offset;
    }
  }

  /** Begins a frame of exactly `length` bytes of payload. @returns the offset of the payload in `buffer` */
  beginFrame(length: number, type: number, flags: number, streamId: number): number {
    this.reserve(FRAME_HEADER_BYTES + length);
    if (type <= FrameType.HEADERS) this.callFrames++;
    else if (this.blocked && type !== FrameType.CONTINUATION)
      this.controlBytes += FRAME_HEADER_BYTES + length;
    const payload = writeFrameHeader(this.slab, this.offset, length, type, flags, streamId);
    this.offset = payload + length;
    return payload;
  }

  /** The memory of `beginFrame`'s payload. Read it again after every `beginFrame`, which may replace the slab. */
  get buffer(): Buffer {
    return this.slab;
  }

  /** Writes a frame whose payload is one 32-bit number: WINDOW_UPDATE, RST_STREAM. */
  uint32Frame(type: number, streamId: number, value: number): void {
    const at = this.beginFrame(4, type, 0, streamId);
    writeUint32(this.slab, at, value);
  }

  /** Writes bytes outside any frame: the preface. */
  raw(bytes: Buffer): void {
    this.reserve(bytes.length);
    this.offset += bytes.copy(this.slab, this.offset);
  }

  frame(type: number, flags: number, streamId: number, source: Buffer, start: number, end: number): void {
    const length = end - start;
    let at = this.beginFrame(length, type, flags, streamId);
    const slab = this.slab;
    if (length <= LOOP_MAX_BYTES) {
      for (let i = start; i < end; i++) slab[at++] = source[i]!;
    } else {
      source.copy(slab, at, start, end);
    }
  }

  /** Its frames join the write that begins, and need no other flush. */
  private take(rider: WriteRider): void {
    const { queued } = this;
    this.queued = true;
    rider.onWrite();
    this.queued = queued;
  }

  flush(): void {
    const socket = this.socket;
    if (this.rider !== undefined && this.pendingBytes > 0) this.take(this.rider);
    if (this.tap !== undefined && this.pendingBytes > 0)
      this.tap.onFlush(this.segments, this.slab, this.start, this.offset);
    if (this.segments.length > 0) {
      this.sealSlab();
      socket.cork();
      for (const segment of this.segments) socket.write(segment, this.onWritten);
      this.segments.length = 0;
      this.segmentBytes = 0;
      socket.uncork();
    } else if (this.offset > this.start) {
      socket.write(this.slab.subarray(this.start, this.offset), this.onWritten);
    } else {
      return;
    }
    if (socket.writableLength === 0) {
      // The kernel has copied all output.
      this.start = this.offset;
      this.giveBack();
      this.blocked = false;
      return;
    }
    this.blocked = socket.writableNeedDrain;
    if (this.slab.length - this.offset < SLAB_MIN_ROOM) {
      this.leave(this.slab);
      this.slab = NO_SLAB;
      this.offset = 0;
    }
    this.start = this.offset;
  }
}

function takeSlab(bytes: number): Buffer {
  if (bytes <= SMALL_SLAB_BYTES) return spareSmallSlabs.pop() ?? Buffer.allocUnsafeSlow(SMALL_SLAB_BYTES);
  if (bytes <= SLAB_BYTES) return spareSlabs.pop() ?? Buffer.allocUnsafeSlow(SLAB_BYTES);
  return Buffer.allocUnsafeSlow(bytes);
}

/** Keeps a slab for later, unless it is a larger one that was made for one frame. */
function spare(slab: Buffer): void {
  if (slab.length === SMALL_SLAB_BYTES) {
    if (spareSmallSlabs.length < SPARE_SMALL_SLABS_MAX) spareSmallSlabs.push(slab);
  } else if (slab.length === SLAB_BYTES && spareSlabs.length < SPARE_SLABS_MAX) {
    spareSlabs.push(slab);
  }
}
