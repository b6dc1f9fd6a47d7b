import type { Socket } from 'node:net';
import { type Flushable, markDirty } from './flush-queue.ts';
import { FRAME_HEADER_BYTES, FrameType, writeFrameHeader, writeUint32 } from './frame.ts';

const SLAB_BYTES = 65_536;
/** TLS: what one read of 64 KiB is sent on as, with room to spare, so that it leaves in one write. */
const TLS_SLAB_BYTES = 131_072;
/** Below this much room a slab that the kernel still reads from is left to it, and a new one is begun. */
const SLAB_MIN_ROOM = 8_192;
/** Payloads up to this size are copied into the slab; larger ones go by reference in the same writev. */
const COPY_MAX_BYTES = 2_048;
/** Below this a loop beats the call into native code that Buffer.copy makes. */
const LOOP_MAX_BYTES = 96;

/** Slabs the kernel is done with. Only a connection that is writing holds one, so idle connections cost none. */
const spareSlabs: Buffer[] = [];
const spareTlsSlabs: Buffer[] = [];
const SPARE_SLABS_MAX = 32;
const NO_SLAB: Buffer = Buffer.alloc(0);

/**
 * The output side of a connection: frames are laid one behind the other in a slab and leave in one write at the
 * end of the event that caused them (`flush-queue.ts`). The slab is used again as soon as the kernel took all of it.
 *
 * Over TLS everything is copied into the slab: Node encrypts one buffer where it lies, but copies several into a new
 * one first. Its writes end in a later turn of the event loop, which gives the slab back.
 */
export class FrameWriter implements Flushable {
  queued = false;
  /** The socket has more than it can take: whoever has DATA for it must wait for `onDrain`. */
  blocked = false;
  /** HEADERS and DATA frames handed over so far: whether a call got anything since. */
  callFrames = 0;

  private readonly socket: Socket;
  private readonly slabBytes: number;
  private readonly spare: Buffer[];
  private readonly copyMaxBytes: number;
  /** Undefined where writes end at once, or the slab is not worth waiting for. */
  private readonly onWritten: (() => void) | undefined = undefined;
  /** Over TLS: slabs without room, to be used again once all was written. */
  private readonly full: Buffer[] = [];
  private slab: Buffer = NO_SLAB;
  private start = 0;
  private offset = 0;
  private readonly segments: Buffer[] = [];
  private segmentBytes = 0;

  constructor(socket: Socket) {
    this.socket = socket;
    const tls = 'encrypted' in socket;
    this.slabBytes = tls ? TLS_SLAB_BYTES : SLAB_BYTES;
    this.spare = tls ? spareTlsSlabs : spareSlabs;
    this.copyMaxBytes = tls ? TLS_SLAB_BYTES : COPY_MAX_BYTES;
    if (tls) this.onWritten = () => this.giveBack();
  }

  /** Nobody reads the slab any more, if all was written. */
  private giveBack(): void {
    if (this.offset > this.start || this.segments.length > 0 || this.socket.writableLength > 0) return;
    this.setAside(this.slab, this.spare);
    while (this.full.length > 0) this.setAside(this.full.pop()!, this.spare);
    this.slab = NO_SLAB;
    this.start = 0;
    this.offset = 0;
  }

  private setAside(slab: Buffer, where: Buffer[]): void {
    if (slab.length === this.slabBytes && where.length < SPARE_SLABS_MAX) where.push(slab);
  }

  /** Bytes written but not yet handed to the socket. */
  get pendingBytes(): number {
    return this.segmentBytes + this.offset - this.start;
  }

  private reserve(bytes: number): void {
    if (this.offset + bytes > this.slab.length) {
      this.sealSlab();
      if (this.onWritten !== undefined) this.setAside(this.slab, this.full);
      this.slab =
        bytes > this.slabBytes
          ? Buffer.allocUnsafeSlow(bytes)
          : (this.spare.pop() ?? Buffer.allocUnsafeSlow(this.slabBytes));
      this.start = 0;
      this.offset = 0;
    }
    if (!this.queued) markDirty(this);
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
    if (length > this.copyMaxBytes && type === FrameType.DATA) {
      this.reserve(FRAME_HEADER_BYTES);
      this.callFrames++;
      this.offset = writeFrameHeader(this.slab, this.offset, length, type, flags, streamId);
      this.sealSlab();
      this.segments.push(source.subarray(start, end));
      this.segmentBytes += length;
      return;
    }
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
      if (this.onWritten !== undefined) this.setAside(this.slab, this.full);
      this.slab = NO_SLAB;
      this.offset = 0;
    }
    this.start = this.offset;
  }
}
