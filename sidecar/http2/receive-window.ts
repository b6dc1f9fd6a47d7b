/** Flow control of what we receive: when a peer gets credit for more bytes. */
import { FrameType } from './frame.ts';
import type { ConnectionLimits } from './limits.ts';
import { queuedMemory, type RoomWaiter } from './queued-memory.ts';
import type { FrameWriter, WriteRider } from './writer.ts';

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
export class ReceiveWindow implements RoomWaiter, WriteRider {
  /** The bytes that the peer may still send. */
  leftBytes: number;
  /** The received bytes that wait for slow readers, over all streams. */
  bufferedBytes = 0;
  /** From so many bytes on it reopens in a write of its own. */
  private stepBytes: number;
  /** From so many on it does with other output. */
  private rideBytes = 0;
  private unacknowledged = 0;
  private readonly connection: WindowConnection;

  constructor(connection: WindowConnection) {
    this.connection = connection;
    this.leftBytes = connection.limits.connectionWindowBytes;
    this.stepBytes = this.leftBytes >> 1;
  }

  /**
   * From now on it reopens by less: with what is written anyway from `rideBytes` on, and in a write of its own from `stepBytes`
   * on. A write costs two system calls, and wakes the peer.
   */
  reopenOften(rideBytes: number, stepBytes: number): void {
    this.rideBytes = rideBytes;
    this.stepBytes = stepBytes;
    this.connection.writer.rider = this;
  }

  onWrite(): void {
    if (this.unacknowledged >= this.rideBytes) this.giveBack(this.rideBytes);
  }

  /** Counts received bytes. @returns false if the peer was not allowed to send them */
  take(bytes: number): boolean {
    if (bytes > this.leftBytes) return false;
    this.leftBytes -= bytes;
    this.unacknowledged += bytes;
    this.giveBack(this.stepBytes);
    return true;
  }

  /** Counts bytes that wait for a slow reader. */
  hold(bytes: number): void {
    this.bufferedBytes += bytes;
  }

  /** Stops counting bytes that no longer wait. */
  release(bytes: number): void {
    this.bufferedBytes -= bytes;
    this.giveBack(this.stepBytes);
  }

  onRoom(): void {
    this.giveBack(this.stepBytes);
  }

  private giveBack(fromBytes: number): void {
    const { limits, writer, closed, role } = this.connection;
    if (this.unacknowledged < fromBytes || closed) return;
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
