/** What a peer has allowed us to send on a connection, and what that says about the bytes that it has. */
import { DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES } from './frame.ts';

/**
 * The sums of a connection's flow control (RFC 9113 §6.9). A peer adds to the window as it receives. Frames arrive in their
 * order, so what it has given back are the first bytes of DATA that were written, whatever their streams.
 */
export class SendCredit {
  /** All bytes that we might have sent by now. */
  private grantedBytes = DEFAULT_WINDOW_BYTES;
  /** The window while nothing is on the way. A peer that makes it larger later seems to have received more than it has. */
  private wholeWindowBytes = DEFAULT_WINDOW_BYTES;

  /** @param windowBytes the window before */
  add(increment: number, windowBytes: number): void {
    if (this.writtenBytes(windowBytes) === 0) this.wholeWindowBytes += increment;
    this.grantedBytes += increment;
  }

  /** The bytes of DATA so far, by the present window. */
  writtenBytes(windowBytes: number): number {
    return this.grantedBytes - windowBytes;
  }

  /** So many of them the peer has received. */
  get receivedBytes(): number {
    return this.grantedBytes - this.wholeWindowBytes;
  }
}

/** Adds a WINDOW_UPDATE's increment; NaN when the sum would pass 2^31-1, which is an error (RFC 9113 §6.9.1). */
export function widen(window: number, increment: number): number {
  const sum = window + increment;
  return sum > MAX_WINDOW_BYTES ? Number.NaN : sum;
}
