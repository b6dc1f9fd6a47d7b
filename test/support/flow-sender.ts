// Sends long bodies over an H2Peer within the windows that the other end gives, as every HTTP/2 end must.
import { flag, frame, frameType, type H2Peer } from '../../scripts/harness/h2-peer.ts';

const MAX_FRAME_BYTES = 16_384;
const INITIAL_WINDOW_SIZE = 4;
/** What may wait in the socket of this process before it stops to write. */
const SOCKET_BYTES = 262_144;

export interface Outgoing {
  readonly streamId: number;
  readonly totalBytes: number;
  /** DATA bytes that the windows let through, those that wait in this process's socket included. */
  sentBytes: number;
}

interface Sending extends Outgoing {
  window: number;
  readonly body: Buffer;
  readonly onSent: () => void;
}

export class FlowSender {
  private readonly peer: H2Peer;
  private window = 65_535;
  private initialWindow = 65_535;
  private readonly sendings = new Map<number, Sending>();
  /** Window updates that came before their stream's body was known. */
  private readonly early = new Map<number, number>();

  constructor(peer: H2Peer) {
    this.peer = peer;
    const before = peer.onFrame;
    peer.onFrame = (received) => {
      before?.(received);
      const { type, flags, streamId, payload } = received;
      if (type === frameType.settings && (flags & flag.ack) === 0) this.onSettings(payload);
      else if (type === frameType.windowUpdate) this.onWindow(streamId, payload.readUInt32BE());
      else if (type === frameType.rstStream) this.sendings.delete(streamId);
      else return;
      this.pump();
    };
    peer.socket.on('drain', () => this.pump());
  }

  /** Sends `totalBytes` of `body`, over and over; `onSent` is called behind the last byte. END_STREAM is left to it. */
  start(streamId: number, body: Buffer, totalBytes: number, onSent: () => void): Outgoing {
    const window = this.initialWindow + (this.early.get(streamId) ?? 0);
    const sending = { streamId, totalBytes, sentBytes: 0, window, body, onSent };
    this.sendings.set(streamId, sending);
    this.pump();
    return sending;
  }

  private onSettings(payload: Buffer): void {
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== INITIAL_WINDOW_SIZE) continue;
      const initial = payload.readUInt32BE(at + 2);
      for (const sending of this.sendings.values()) sending.window += initial - this.initialWindow;
      this.initialWindow = initial;
    }
  }

  private onWindow(streamId: number, increment: number): void {
    const sending = this.sendings.get(streamId);
    if (streamId === 0) this.window += increment;
    else if (sending !== undefined) sending.window += increment;
    else this.early.set(streamId, (this.early.get(streamId) ?? 0) + increment);
  }

  /** A frame a stream in turn, as long as windows and the socket allow it. */
  private pump(): void {
    const { peer } = this;
    for (let moved = true; moved && !peer.closed; ) {
      moved = false;
      for (const sending of this.sendings.values()) {
        if (peer.socket.writableLength > SOCKET_BYTES) return;
        const { body, streamId, sentBytes, totalBytes } = sending;
        const at = sentBytes % body.length;
        const bytes = Math.min(
          MAX_FRAME_BYTES,
          body.length - at,
          totalBytes - sentBytes,
          sending.window,
          this.window,
        );
        if (bytes <= 0) continue;
        peer.socket.write(frame(frameType.data, 0, streamId, body.subarray(at, at + bytes)));
        sending.sentBytes += bytes;
        sending.window -= bytes;
        this.window -= bytes;
        moved = true;
        if (sending.sentBytes < totalBytes) continue;
        this.sendings.delete(streamId);
        sending.onSent();
      }
    }
  }
}
