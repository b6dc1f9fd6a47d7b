// Bodies on their way, as far as the windows of their streams and of the connection let them through.
import { DEFAULT_MAX_FRAME_BYTES } from '../../sidecar/http2/frame.ts';
import type { FrameSocket } from './frame-socket.ts';

/** With more than this in the kernel's way the rest waits. */
const MAX_WAITING_BYTES = 4 << 20;

interface Body {
  readonly stream: number;
  readonly bytes: Buffer;
  /** Of the last frame. */
  readonly flags: number;
  readonly done: ((stream: number) => void) | undefined;
  at: number;
  window: number;
}

export class BodyQueue {
  private readonly frames: FrameSocket;
  private readonly waiting: Body[] = [];

  constructor(frames: FrameSocket) {
    this.frames = frames;
  }

  /** Sends a stream's only body; `done` is called when its last byte was handed over. What has to wait is copied. */
  send(stream: number, bytes: Buffer, flags: number, done?: (stream: number) => void): void {
    const { sendWindow, initialWindow } = this.frames;
    const room = Math.min(sendWindow, initialWindow, DEFAULT_MAX_FRAME_BYTES);
    if (bytes.length <= room && this.waiting.length === 0) {
      this.frames.data(stream, flags, bytes, 0, bytes.length);
      done?.(stream);
      return;
    }
    // The next call writes its id into the same bytes; a body that is never changed is not copied for that.
    const own = done === undefined ? Buffer.from(bytes) : bytes;
    this.waiting.push({ stream, bytes: own, flags, done, at: 0, window: initialWindow });
    this.continue();
  }

  onWindow(stream: number, bytes: number): void {
    if (this.waiting.length === 0) return;
    if (stream !== 0) {
      const body = this.waiting.find((body) => body.stream === stream);
      if (body === undefined) return;
      body.window += bytes;
    }
    this.continue();
  }

  onReset(stream: number): void {
    const at = this.waiting.findIndex((body) => body.stream === stream);
    if (at >= 0) this.waiting.splice(at, 1);
  }

  /** Goes on after the kernel has taken what it had. */
  continue(): void {
    for (let i = 0; i < this.waiting.length; ) {
      const body = this.waiting[i]!;
      if (this.sendPart(body)) this.waiting.splice(i, 1);
      else i++;
    }
  }

  /** True at its end. */
  private sendPart(body: Body): boolean {
    const { stream, bytes } = body;
    while (body.at < bytes.length) {
      const room = Math.min(body.window, this.frames.sendWindow, DEFAULT_MAX_FRAME_BYTES);
      if (room <= 0 || this.frames.waitingBytes > MAX_WAITING_BYTES) return false;
      const end = Math.min(bytes.length, body.at + room);
      this.frames.data(stream, end === bytes.length ? body.flags : 0, bytes, body.at, end);
      body.window -= end - body.at;
      body.at = end;
    }
    body.done?.(stream);
    return true;
  }
}
