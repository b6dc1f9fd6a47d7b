/** Slices up to a quarter of what they are cut from are copied, so that a call never keeps others' bytes alive. */
const COPY_BELOW = 4;

/**
 * The request as far as it has come: what an attempt that has no stream yet will send, and what another attempt
 * would send again. Beyond `maxBytes` it can't be sent again; then it only holds what was not sent at all.
 */
export class RequestBuffer {
  private readonly chunks: Buffer[] = [];
  bytes = 0;
  /** The request has not been cut: a new attempt can send it from its beginning. */
  whole = true;

  add(buffer: Buffer, start: number, end: number): void {
    const length = end - start;
    if (length === 0) return;
    this.bytes += length;
    if (length * COPY_BELOW < buffer.buffer.byteLength) {
      // Small copies come from Node's shared pool of 8 KiB: a buffer of its own costs more than all else done here.
      const copy = Buffer.allocUnsafe(length);
      buffer.copy(copy, 0, start, end);
      this.chunks.push(copy);
    } else {
      this.chunks.push(buffer.subarray(start, end));
    }
  }

  get parts(): readonly Buffer[] {
    return this.chunks;
  }

  /** What is here has been sent and will not be sent again. */
  drop(): void {
    if (this.bytes > 0) this.whole = false;
    this.chunks.length = 0;
    this.bytes = 0;
  }

  /** `buffer[start, end)` of the first bytes, for who must read the first message; undefined while it is not whole. */
  firstMessage(): { buffer: Buffer; start: number; end: number } | undefined {
    const first = this.chunks[0];
    if (first === undefined || this.bytes < 5) return undefined;
    const buffer = this.chunks.length === 1 ? first : Buffer.concat(this.chunks);
    const end = 5 + buffer.readUInt32BE(1);
    return buffer.length < end ? undefined : { buffer, start: 5, end };
  }
}
