/** Gathers bytes that arrive in pieces in one buffer. */

const FIRST_BYTES = 64;

/** Joins bytes as they arrive in pieces: a piece of one byte costs no more than a byte. */
export class GrowingBuffer {
  private buffer: Buffer = Buffer.alloc(0);
  private start = 0;
  private end = 0;

  /** The bytes so far; valid until more are added. */
  get bytes(): Buffer {
    return this.buffer.subarray(this.start, this.end);
  }

  add(source: Buffer, start: number, end: number): void {
    const length = end - start;
    if (this.end + length > this.buffer.length) {
      const held = this.end - this.start;
      const larger = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, 2 * (held + length)));
      this.buffer.copy(larger, 0, this.start, this.end);
      this.buffer = larger;
      this.start = 0;
      this.end = held;
    }
    source.copy(this.buffer, this.end, start, end);
    this.end += length;
  }

  /** Makes room for so many bytes in all, so that a long message is not copied again and again. */
  reserve(bytes: number): void {
    if (bytes <= this.buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(bytes);
    this.buffer.copy(larger, 0, this.start, this.end);
    this.end -= this.start;
    this.start = 0;
    this.buffer = larger;
  }

  dropFirst(bytes: number): void {
    this.start += bytes;
    if (this.start < this.end) return;
    this.start = 0;
    this.end = 0;
  }
}
