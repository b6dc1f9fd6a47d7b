/**
 * Follows the frames of one direction of a WebSocket (RFC 6455, section 5.2) without reading their payload, to find where
 * a frame ends and a close may be inserted. Pure.
 */

const MASKED = 0x80;
const LENGTH = 0x7f;
const TWO_BYTES = 126;
const EIGHT_BYTES = 127;

export class FrameBoundary {
  /** The bytes left of the present frame's payload. */
  private left = 0;
  /** The first bytes of the present frame's head. */
  private readonly head = new Uint8Array(14);
  private headBytes = 0;

  /** Whether the bytes so far end with a frame. */
  get isAtEnd(): boolean {
    return this.left === 0 && this.headBytes === 0;
  }

  /** Returns the end of the last frame that ends in these bytes; 0 when none does. */
  push(bytes: Buffer): number {
    let end = 0;
    let at = 0;
    while (at < bytes.length) {
      if (this.left > 0) {
        const taken = Math.min(this.left, bytes.length - at);
        this.left -= taken;
        at += taken;
        if (this.left === 0) end = at;
        continue;
      }
      this.head[this.headBytes++] = bytes[at++]!;
      if (this.headBytes < 2 || this.headBytes < headLength(this.head[1]!)) continue;
      this.left = this.payloadLength();
      this.headBytes = 0;
      if (this.left === 0) end = at;
    }
    return end;
  }

  private payloadLength(): number {
    const short = this.head[1]! & LENGTH;
    const view = new DataView(this.head.buffer);
    if (short === TWO_BYTES) return view.getUint16(2);
    return short === EIGHT_BYTES ? Number(view.getBigUint64(2)) : short;
  }
}

function headLength(second: number): number {
  const short = second & LENGTH;
  const lengthBytes = short === TWO_BYTES ? 2 : short === EIGHT_BYTES ? 8 : 0;
  return 2 + lengthBytes + ((second & MASKED) === 0 ? 0 : 4);
}

/** The close of a server that goes away (RFC 6455, section 7.4.1: 1001). */
export const GOING_AWAY = Buffer.from([0x88, 0x02, 0x03, 0xe9]);
