/** The compressed flag and four bytes of length in front of each message (PROTOCOL-HTTP2, "Length-Prefixed-Message"). */
export const PREFIX_BYTES = 5;

/**
 * Follows the length-prefixed messages of a gRPC stream (PROTOCOL-HTTP2, "Length-Prefixed-Message") through DATA
 * frames, whose boundaries mean nothing. It counts messages, and detects one above the limit before its bytes have
 * passed.
 */
export class MessageFraming {
  /** Messages whose whole prefix has arrived. */
  started = 0;
  /** Messages whose last byte has passed. */
  finished = 0;
  /** All bytes so far, including prefixes. */
  bytes = 0;
  private prefixBytes = 0;
  private length = 0;
  private bodyLeft = 0;

  /**
   * @returns false when a message is longer than `maxBytes`; the caller then ends the call and makes no further calls
   * here
   */
  advance(buffer: Buffer, start: number, end: number, maxBytes: number): boolean {
    this.bytes += end - start;
    let at = start;
    while (at < end) {
      if (this.bodyLeft > 0) {
        const bytes = end - at;
        if (bytes < this.bodyLeft) {
          this.bodyLeft -= bytes;
          return true;
        }
        at += this.bodyLeft;
        this.bodyLeft = 0;
        this.finished++;
        continue;
      }
      if (this.prefixBytes === 0 && end - at >= PREFIX_BYTES) {
        this.length =
          buffer[at + 1]! * 0x1000000 + ((buffer[at + 2]! << 16) | (buffer[at + 3]! << 8) | buffer[at + 4]!);
        at += PREFIX_BYTES;
      } else {
        // A prefix split over frames is rare, so we read it byte by byte. The first byte is the compressed flag.
        const byte = buffer[at++]!;
        this.length = this.prefixBytes === 0 ? 0 : this.length * 256 + byte;
        if (++this.prefixBytes < PREFIX_BYTES) continue;
        this.prefixBytes = 0;
      }
      this.started++;
      if (this.length > maxBytes) return false;
      if (this.length === 0) this.finished++;
      else this.bodyLeft = this.length;
    }
    return true;
  }

  /** True between two messages: the stream may end here (a truncated one would not). */
  get atBoundary(): boolean {
    return this.bodyLeft === 0 && this.prefixBytes === 0;
  }

  /** The length of the current message, for the answer that refuses it. */
  get messageBytes(): number {
    return this.length;
  }
}
