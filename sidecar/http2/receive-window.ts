/** Flow control of what we receive: when a peer gets credit for more bytes. */
import { FrameType } from './frame.ts';
import type { ConnectionLimits } from './limits.ts';
import { queuedMemory, type RoomWaiter } from './queued-memory.ts';
import type { FrameWriter } from './writer.ts';

/** The parts of a connection that its receive window needs. */
export interface WindowConnection {
  readonly role: 'server' | 'client';
  readonly limits: ConnectionLimits;
  readonly writer: FrameWriter;
  readonly closed: boolean;
}

/**
 * The receive window of a whole connection (RFC 9113 §6.9). It does not wait for slow readers, because one of them would stop
 * all streams: it reopens as bytes arrive, until the waiting bytes reach a bound.
 */
export class ReceiveWindow implements RoomWaiter {
  /** The bytes that the peer may still send. */
  leftBytes: number;
  /** The received bytes that wait for slow readers, over all streams. */
  bufferedBytes = 0;
  /** It reopens by so many bytes at a time. */
  stepBytes: number;
  private unacknowledged = 0;
  private readonly connection: WindowConnection;

  constructor(connection: WindowConnection) {
    this.connection = connection;
    this.leftBytes = connection.limits.connectionWindowBytes;
    this.stepBytes = this.leftBytes >> 1;
  }

  /** Counts received bytes. @returns false if the peer was not allowed to send them */
  take(bytes: number): boolean {
    if (bytes > this.leftBytes) return false;
    this.leftBytes -= bytes;
    this.unacknowledged += bytes;
    this.giveBack();
    return true;
  }

  /** Counts bytes that wait for a slow reader. */
  hold(bytes: number): void {
    this.bufferedBytes += bytes;
  }

  /** Stops counting bytes that no longer wait. */
  release(bytes: number): void {
    this.bufferedBytes -= bytes;
    this.giveBack();
  }

  onRoom(): void {
    this.giveBack();
  }

  private giveBack(): void {
    const { limits, writer, closed, role } = this.connection;
    if (this.unacknowledged < this.stepBytes || closed) return;
    // Many callers share a connection to an upstream, so only the bound of all waiting bytes applies to it.
    if (role === 'server' && this.bufferedBytes > limits.maxBufferedBytes) return;
    if (queuedMemory.full && this.bufferedBytes > limits.connectionWindowBytes) {
      queuedMemory.awaitRoom(this);
      return;
    }
    writer.uint32Frame(FrameType.WINDOW_UPDATE, 0, this.unacknowledged);
    this.leftBytes += this.unacknowledged;
    this.unacknowledged = 0;
  }
}
