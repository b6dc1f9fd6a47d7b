/** The compressed flag and four bytes of length in front of each message (PROTOCOL-HTTP2, "Length-Prefixed-Message"). */
export const PREFIX_BYTES = 5;

/**
 * Follows the length-prefixed messages of a gRPC stream (PROTOCOL-HTTP2, "Length-Prefixed-Message") through DATA
 * frames, whose boundaries mean nothing: counts messages and finds one that is larger than allowed before its
 * bytes have passed.
 */
export class MessageFraming {
  /** Messages whose prefix has been seen whole. */
  started = 0;
  /** Messages that have passed to their last byte. */
  finished = 0;
  /** All that has passed, prefixes included. */
  bytes = 0;
  private prefixBytes = 0;
  private length = 0;
  private bodyLeft = 0;

  /** @returns false when a message is longer than `maxBytes`; the caller ends the call and asks no more */
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
        // The prefix itself is split over frames: rare, so byte by byte. The first byte is the compressed flag.
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

  /** Nothing of a further message has been seen: the stream may end here (a cut one would not). */
  get atBoundary(): boolean {
    return this.bodyLeft === 0 && this.prefixBytes === 0;
  }

  /** Length of the message that is passing, for the answer that refuses it. */
  get messageBytes(): number {
    return this.length;
  }
}
