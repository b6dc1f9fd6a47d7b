import { FrameType } from './frame.ts';
import type { ConnectionLimits } from './limits.ts';
import { queuedMemory, type RoomWaiter } from './queued-memory.ts';
import type { FrameWriter } from './writer.ts';

/** What the window needs of its connection. */
export interface WindowConnection {
  readonly role: 'server' | 'client';
  readonly limits: ConnectionLimits;
  readonly writer: FrameWriter;
  readonly closed: boolean;
}

/**
 * What the peer may send on a whole connection (RFC 9113 §6.9). It does not wait for slow readers, or one of them
 * would stop all: the window is given back as bytes arrive, until what waits reaches a bound.
 */
export class ReceiveWindow implements RoomWaiter {
  /** Bytes the peer may still send. */
  leftBytes: number;
  /** Bytes that came and wait for slow readers, over all streams. */
  bufferedBytes = 0;
  private unacknowledged = 0;
  private readonly connection: WindowConnection;

  constructor(connection: WindowConnection) {
    this.connection = connection;
    this.leftBytes = connection.limits.connectionWindowBytes;
  }

  /** So many bytes have come. False: the peer was not allowed to send them. */
  take(bytes: number): boolean {
    if (bytes > this.leftBytes) return false;
    this.leftBytes -= bytes;
    this.unacknowledged += bytes;
    this.giveBack();
    return true;
  }

  /** Some of them wait for a slow reader. */
  hold(bytes: number): void {
    this.bufferedBytes += bytes;
  }

  /** They are gone. */
  release(bytes: number): void {
    this.bufferedBytes -= bytes;
    this.giveBack();
  }

  onRoom(): void {
    this.giveBack();
  }

  private giveBack(): void {
    const { limits, writer, closed, role } = this.connection;
    if (this.unacknowledged < limits.connectionWindowBytes >> 1 || closed) return;
    // Many callers share a connection to an upstream: what waits for them is bounded where all of it waits.
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
