// Frames on a socket, for both ends of the bench: read in place, written into a slab and sent once a turn. It answers
// SETTINGS and PING, gives connection windows back, and hands everything else on. It trusts its peer: an unexpected frame ends the run.
import type { Socket } from 'node:net';
import {
  DEFAULT_MAX_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  Flag,
  FRAME_HEADER_BYTES,
  FrameType,
  PREFACE,
} from '../../sidecar/http2/frame.ts';

const SLAB_BYTES = 65_536;
/** A new slab is begun when less than this is left. */
const SLAB_RESERVE_BYTES = 24 * 1024;
/** Larger payloads are sent from where they are. */
const COPY_BYTES = 4096;
/** Windows that we give: larger than anything that is sent. */
const RECEIVE_WINDOW_BYTES = 2 ** 30 - 1;
const INITIAL_WINDOW_SETTING = 4;
const HEADER_TABLE_SETTING = 1;
const STREAMS_SETTING = 3;

export interface FrameHandler {
  /** The peer's SETTINGS have come: windows and limits are known. */
  onSettings(): void;
  /** A whole header block of a stream. */
  onHeaders(stream: number, flags: number, buffer: Buffer, start: number, end: number): void;
  /** A part of a DATA frame's payload; `flags` come with its last part. */
  onData(stream: number, flags: number, buffer: Buffer, start: number, end: number): void;
  /** The peer lets us send so much more; on a stream, or on the connection (0). */
  onWindow(stream: number, bytes: number): void;
  onReset(stream: number, errorCode: number): void;
  onGoAway(errorCode: number): void;
}

export class FrameSocket {
  /** The connection's send window. */
  sendWindow = DEFAULT_WINDOW_BYTES;
  /** The send window of a new stream. */
  initialWindow = DEFAULT_WINDOW_BYTES;
  maxStreams = Number.POSITIVE_INFINITY;
  /** The peer keeps a header table of the usual size; nginx keeps none for its upstream's answers. */
  hasTable = true;
  private readonly socket: Socket;
  private readonly handler: FrameHandler;
  private slab = Buffer.allocUnsafe(SLAB_BYTES);
  /** The unsent part of the slab: [from, end). */
  private from = 0;
  private end = 0;
  /** A frame's beginning that came without its end. */
  private partial: Buffer = Buffer.alloc(0);
  /** Of the DATA frame whose end has not come yet. */
  private dataLeft = 0;
  private dataStream = 0;
  private dataFlags = 0;
  private unacknowledged = 0;
  /** Of a client's preface. */
  private prefaceLeft: number;

  constructor(socket: Socket, handler: FrameHandler, role: 'client' | 'server', maxStreams: number) {
    this.socket = socket;
    this.handler = handler;
    this.prefaceLeft = role === 'server' ? PREFACE.length : 0;
    if (role === 'client') this.end = PREFACE.copy(this.slab);
    this.frame(12, FrameType.SETTINGS, 0, 0);
    this.setting(INITIAL_WINDOW_SETTING, RECEIVE_WINDOW_BYTES);
    this.setting(STREAMS_SETTING, maxStreams);
    this.windowUpdate(RECEIVE_WINDOW_BYTES - DEFAULT_WINDOW_BYTES);
    this.flush();
  }

  /** The bytes that the kernel has not accepted yet. */
  get waitingBytes(): number {
    return this.socket.writableLength;
  }

  headers(stream: number, flags: number, block: Buffer, length: number): void {
    this.frame(length, FrameType.HEADERS, flags | Flag.END_HEADERS, stream);
    block.copy(this.slab, this.end, 0, length);
    this.end += length;
  }

  /** The caller has looked at the windows and at the 16 KiB that a frame may have. */
  data(stream: number, flags: number, payload: Buffer, start: number, end: number): void {
    this.sendWindow -= end - start;
    this.frame(end - start, FrameType.DATA, flags, stream);
    if (end - start > COPY_BYTES) {
      this.socket.cork();
      this.flush();
      this.socket.write(payload.subarray(start, end));
      this.socket.uncork();
      return;
    }
    payload.copy(this.slab, this.end, start, end);
    this.end += end - start;
  }

  /** Sends what was written since the last time. */
  flush(): void {
    if (this.end === this.from) return;
    this.socket.write(this.slab.subarray(this.from, this.end));
    this.from = this.end;
  }

  /** Takes what came; sends what that has caused. */
  read(chunk: Buffer): void {
    let at = 0;
    const length = chunk.length;
    if (this.partial.length > 0) {
      // Only as much as the frame needs, so that large payloads are not copied.
      const joined = Buffer.concat([this.partial, chunk]);
      this.partial = Buffer.alloc(0);
      this.read(joined);
      return;
    }
    if (this.prefaceLeft > 0) {
      at = Math.min(length, this.prefaceLeft);
      this.prefaceLeft -= at;
    }
    if (this.dataLeft > 0) at = this.dataPart(chunk, 0, length);
    while (length - at >= FRAME_HEADER_BYTES) {
      const size = (chunk[at]! << 16) | (chunk[at + 1]! << 8) | chunk[at + 2]!;
      const type = chunk[at + 3]!;
      const start = at + FRAME_HEADER_BYTES;
      if (type === FrameType.DATA) {
        this.dataLeft = size;
        this.dataFlags = chunk[at + 4]!;
        this.dataStream = chunk.readUInt32BE(at + 5);
        if ((this.dataFlags & Flag.PADDED) !== 0) throw new Error('unexpected padded DATA');
        at = this.dataPart(chunk, start, length);
        continue;
      }
      if (length - start < size) break;
      this.onFrame(type, chunk[at + 4]!, chunk.readUInt32BE(at + 5), chunk, start, start + size);
      at = start + size;
    }
    // The next read reuses the buffer.
    if (at < length) this.partial = Buffer.from(chunk.subarray(at));
    this.flush();
  }

  private dataPart(chunk: Buffer, start: number, length: number): number {
    const end = Math.min(length, start + this.dataLeft);
    this.dataLeft -= end - start;
    this.unacknowledged += end - start;
    if (this.unacknowledged > RECEIVE_WINDOW_BYTES >> 1) {
      this.windowUpdate(this.unacknowledged);
      this.unacknowledged = 0;
    }
    this.handler.onData(this.dataStream, this.dataLeft === 0 ? this.dataFlags : 0, chunk, start, end);
    return end;
  }

  private onFrame(
    type: number,
    flags: number,
    stream: number,
    buffer: Buffer,
    start: number,
    end: number,
  ): void {
    if (type === FrameType.HEADERS) {
      if ((flags & Flag.END_HEADERS) === 0) throw new Error('unexpected CONTINUATION');
      const padding = (flags & Flag.PADDED) === 0 ? 0 : buffer[start]!;
      const from = start + ((flags & Flag.PADDED) === 0 ? 0 : 1) + ((flags & Flag.PRIORITY) === 0 ? 0 : 5);
      this.handler.onHeaders(stream, flags, buffer, from, end - padding);
    } else if (type === FrameType.WINDOW_UPDATE) {
      const bytes = buffer.readUInt32BE(start);
      if (stream === 0) this.sendWindow += bytes;
      this.handler.onWindow(stream, bytes);
    } else if (type === FrameType.SETTINGS) {
      if ((flags & Flag.ACK) === 0) this.onSettings(buffer, start, end);
    } else if (type === FrameType.PING) {
      if ((flags & Flag.ACK) !== 0) return;
      this.frame(end - start, FrameType.PING, Flag.ACK, 0);
      this.end += buffer.copy(this.slab, this.end, start, end);
    } else if (type === FrameType.RST_STREAM) this.handler.onReset(stream, buffer.readUInt32BE(start));
    else if (type === FrameType.GOAWAY) this.handler.onGoAway(buffer.readUInt32BE(start + 4));
  }

  private onSettings(buffer: Buffer, start: number, end: number): void {
    for (let at = start; at < end; at += 6) {
      const name = buffer.readUInt16BE(at);
      const value = buffer.readUInt32BE(at + 2);
      if (name === INITIAL_WINDOW_SETTING) this.initialWindow = value;
      else if (name === STREAMS_SETTING) this.maxStreams = value;
      else if (name === HEADER_TABLE_SETTING) this.hasTable = value >= 4096;
    }
    this.frame(0, FrameType.SETTINGS, Flag.ACK, 0);
    this.handler.onSettings();
  }

  private setting(name: number, value: number): void {
    this.end = this.slab.writeUInt16BE(name, this.end);
    this.end = this.slab.writeUInt32BE(value, this.end);
  }

  private windowUpdate(bytes: number): void {
    this.frame(4, FrameType.WINDOW_UPDATE, 0, 0);
    this.end = this.slab.writeUInt32BE(bytes, this.end);
  }

  /** Writes a frame's header and makes room for its payload, which has at most 16 KiB. */
  private frame(length: number, type: number, flags: number, stream: number): void {
    if (length > DEFAULT_MAX_FRAME_BYTES) throw new Error(`a frame of ${length} bytes exceeds the slab`);
    if (this.slab.length - this.end < SLAB_RESERVE_BYTES) {
      this.flush();
      this.slab = Buffer.allocUnsafe(SLAB_BYTES);
      this.from = 0;
      this.end = 0;
    }
    const slab = this.slab;
    let at = this.end;
    slab[at++] = length >>> 16;
    slab[at++] = length >>> 8;
    slab[at++] = length;
    slab[at++] = type;
    slab[at++] = flags;
    slab[at++] = stream >>> 24;
    slab[at++] = stream >>> 16;
    slab[at++] = stream >>> 8;
    slab[at++] = stream;
    this.end = at;
  }
}
