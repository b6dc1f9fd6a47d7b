import type { Socket } from 'node:net';
import { type Flushable, markDirty } from './flush-queue.ts';
import { FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from './frame.ts';

/** What one read (`shared-read.ts`) is sent on as, with room to spare for frame headers, so that it leaves in one write. */
const SLAB_BYTES = 147_456;
/** A few heads and short messages. A hundred connections may each have some to write at the same time. */
const SMALL_SLAB_BYTES = 4_096;
/** Below this much room a slab that the kernel still reads from is left to it, and a new one is begun. */
const SLAB_MIN_ROOM = 8_192;
/** Below this a loop beats the call into native code that Buffer.copy makes. */
const LOOP_MAX_BYTES = 96;
/** Output gathered beyond this is handed to the socket before more is written. */
const GATHER_MAX_BYTES = 65_536;

/** Slabs the kernel is done with. Only a connection that is writing holds one, so idle connections cost none. */
const spareSlabs: Buffer[] = [];
const spareSmallSlabs: Buffer[] = [];
/** At most as many are kept: 4.5 MiB, and 4 MiB. Were it fewer than are in use at once, each round would allocate. */
const SPARE_SLABS_MAX = 32;
const SPARE_SMALL_SLABS_MAX = 1_024;
const NO_SLAB: Buffer = Buffer.alloc(0);

/**
 * The output side of a connection: frames are laid one behind the other in a slab and leave in one write at the
 * end of the event that caused them (`flush-queue.ts`). The slab is used again as soon as the kernel took all of it.
 *
 * Payloads are copied: 16 KiB take a microsecond, and less than what a write of several pieces costs in Node, which
 * over TLS copies them anyway. What they were read into is free again at once (`shared-read.ts`).
 */
export class FrameWriter implements Flushable {
  queued = false;
  /** The socket has more than it can take: whoever has DATA for it must wait for `onDrain`. */
  blocked = false;
  /** HEADERS and DATA frames handed over so far: whether a call got anything since. */
  callFrames = 0;
  /** Of control frames that were written since the socket takes no more: what the peer asks for and does not read. */
  controlBytes = 0;

  private readonly socket: Socket;
  /** Over TLS writes end in a later turn of the event loop; elsewhere at once, or with `drain`. */
  private readonly onWritten: (() => void) | undefined = undefined;
  /** Slabs without room, to be used again once all was written. */
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

  /** The socket takes more again. */
  onDrain(): void {
    this.blocked = false;
    this.controlBytes = 0;
    this.giveBack();
  }

  /** Nobody reads the slab any more, if all was written. */
  private giveBack(): void {
    if (this.offset > this.start || this.segments.length > 0 || this.socket.writableLength > 0) return;
    spare(this.slab);
    while (this.full.length > 0) spare(this.full.pop()!);
    this.slab = NO_SLAB;
    this.start = 0;
    this.offset = 0;
  }

  /** Hands over what has been gathered if it is enough for a write of its own, so that `blocked` is true in time. */
  relieve(): void {
    if (this.pendingBytes > GATHER_MAX_BYTES) this.flush();
  }

  /** Bytes written but not yet handed to the socket. */
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

  /** To the kernel, until it has taken all. */
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

  /** Opens a frame of exactly `length` payload bytes and answers where in `buffer` the payload goes. */
  beginFrame(length: number, type: number, flags: number, streamId: number): number {
    this.reserve(FRAME_HEADER_BYTES + length);
    if (type <= FrameType.HEADERS) this.callFrames++;
    else if (this.blocked && type !== FrameType.CONTINUATION)
      this.controlBytes += FRAME_HEADER_BYTES + length;
    const payload = writeFrameHeader(this.slab, this.offset, length, type, flags, streamId);
    this.offset = payload + length;
    return payload;
  }

  /** Where `beginFrame`'s payload lies. Read it again after every `beginFrame`: the slab may have been replaced. */
  get buffer(): Buffer {
    return this.slab;
  }

  /** A frame whose payload is one 32-bit number: WINDOW_UPDATE, RST_STREAM. */
  uint32Frame(type: number, streamId: number, value: number): void {
    const at = this.beginFrame(4, type, 0, streamId);
    writeUint32(this.slab, at, value);
  }

  /** Bytes as they are, outside any frame: the preface. */
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

  flush(): void {
    const socket = this.socket;
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
      // The kernel has copied everything.
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

/** Larger ones were made for one frame. */
function spare(slab: Buffer): void {
  if (slab.length === SMALL_SLAB_BYTES) {
    if (spareSmallSlabs.length < SPARE_SMALL_SLABS_MAX) spareSmallSlabs.push(slab);
  } else if (slab.length === SLAB_BYTES && spareSlabs.length < SPARE_SLABS_MAX) {
    spareSlabs.push(slab);
  }
}
