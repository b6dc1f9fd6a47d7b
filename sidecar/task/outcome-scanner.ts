/**
 * Reads how a task ended from the bytes of its `agent.TaskResponse` as they pass.
 *
 * The message may have megabytes of `output`, and arrives in DATA frames with arbitrary boundaries. The scanner does not
 * keep it: it skips all but two fields, and a few numbers record where in the message the last chunk ended.
 *
 *     prefix ──5 bytes──▶ tag ──VARINT──▶ value ──────▶ tag
 *        │                │ ├──BYTES───▶ length ─▶ skip ─▶ tag
 *        │ compressed     │ └──FIXED32, FIXED64──▶ skip ─▶ tag
 *        ▼                ▼
 *      gather ─────────▶ done ◀── end of the message, or malformed
 *
 * It gathers a compressed message, inflates it at its end and reads it in the same way. One that exceeds the bounds stays
 * unknown: answers with the status FAILED are short.
 *
 * Sources: gRPC over HTTP/2, "Length-Prefixed-Message"; protobuf.dev, "Encoding".
 */

import { inflateMessage } from '../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';

const PREFIX = 0;
const TAG = 1;
const VALUE = 2;
const LENGTH = 3;
const SKIP = 4;
const DONE = 5;
const GATHER = 6;

const COMPRESSED = 1;
/** The largest compressed message that is gathered, and the most bytes to which it is inflated. */
const COMPRESSED_MAX_BYTES = 65_536;
const INFLATED_MAX_BYTES = 1_048_576;
const MAX_VARINT_SHIFT = 63;

const STATUS_FIELD = 3;
const TOKENS_USED_FIELD = 4;

export class OutcomeScanner {
  /** The response's `grpc-encoding`; '' without one. Set it before the first message. */
  encoding = '';
  /** A complete message has passed and was read. Stays false for one that is malformed or can't be inflated. */
  seen = false;
  /** The value of `status`, an open enum; valid only when `seen`. */
  status = 0;
  /** `tokens_used` as the agent wrote it, possibly negative; valid only when `seen`. */
  tokensUsed = 0;

  private state = PREFIX;
  private prefixBytes = 0;
  private messageBytesLeft = 0;
  private skipBytesLeft = 0;
  private field = 0;
  /** The depth of groups around the next field; fields in groups are not the message's. */
  private groups = 0;
  /** A varint that may span chunks: its lower 32 bits, the shift of the next seven, and whether higher bits are set. */
  private low = 0;
  private shift = 0;
  private wide = false;
  /** The earlier chunks of a compressed message. */
  private gathered: Buffer[] | undefined = undefined;

  /**
   * Reads the next bytes of the response's DATA; never throws. Only the first message counts: a second one would violate
   * the RPC.
   */
  feed(buffer: Buffer, start: number, end: number): void {
    const at = this.state === PREFIX ? this.readPrefix(buffer, start, end) : start;
    if (this.state === PREFIX || this.state === DONE) return;
    if (this.state === GATHER) {
      this.gather(buffer, at, end);
      return;
    }
    this.read(buffer, at, end);
  }

  /** Reads bytes of the message itself. */
  private read(buffer: Buffer, start: number, end: number): void {
    let at = start;
    const limit = Math.min(end, at + this.messageBytesLeft);
    this.messageBytesLeft -= limit - at;
    while (at < limit) {
      if (this.state === SKIP) {
        const bytes = Math.min(this.skipBytesLeft, limit - at);
        at += bytes;
        this.skipBytesLeft -= bytes;
        if (this.skipBytesLeft === 0) this.state = TAG;
        continue;
      }
      const byte = buffer[at++]!;
      // Most tags and values are one byte long.
      if (byte < 0x80 && this.shift === 0) this.state = this.afterVarint(byte, false);
      else this.addToVarint(byte);
      if (this.state === DONE) return;
    }
    if (this.messageBytesLeft === 0) this.endMessage();
  }

  private readPrefix(buffer: Buffer, start: number, end: number): number {
    let at = start;
    while (at < end && this.prefixBytes < PREFIX_BYTES) {
      const byte = buffer[at++]!;
      if (this.prefixBytes++ > 0) {
        this.messageBytesLeft = this.messageBytesLeft * 256 + byte;
      } else if (byte === COMPRESSED) {
        this.gathered = [];
      } else if (byte !== 0) {
        this.state = DONE;
        return at;
      }
    }
    if (this.prefixBytes < PREFIX_BYTES) return at;
    if (this.gathered === undefined) this.state = TAG;
    else this.state = this.messageBytesLeft > COMPRESSED_MAX_BYTES ? DONE : GATHER;
    return at;
  }

  private gather(buffer: Buffer, start: number, end: number): void {
    const piece = buffer.subarray(start, Math.min(end, start + this.messageBytesLeft));
    this.messageBytesLeft -= piece.length;
    const gathered = this.gathered!;
    if (this.messageBytesLeft > 0) {
      // Copy: the connection reuses its buffer.
      if (piece.length > 0) gathered.push(Buffer.from(piece));
      return;
    }
    this.gathered = undefined;
    const data = gathered.length === 0 ? piece : Buffer.concat([...gathered, piece]);
    const inflated = inflateMessage(this.encoding, data, true, INFLATED_MAX_BYTES);
    this.state = DONE;
    if (typeof inflated === 'string' || !inflated.whole) return;
    const { bytes } = inflated;
    this.state = TAG;
    this.messageBytesLeft = bytes.length;
    this.read(bytes, 0, bytes.length);
  }

  private addToVarint(byte: number): void {
    const { shift } = this;
    const bits = byte & 0x7f;
    if (shift < 32) this.low |= bits << shift;
    if (shift >= 28 && (shift > 28 ? bits : bits >> 4) !== 0) this.wide = true;
    this.shift = shift + 7;
    if (byte >= 0x80) {
      if (this.shift > MAX_VARINT_SHIFT) this.state = DONE;
      return;
    }
    const { low, wide } = this;
    this.low = 0;
    this.shift = 0;
    this.wide = false;
    this.state = this.afterVarint(low, wide);
  }

  /** @returns the next state */
  private afterVarint(low: number, wide: boolean): number {
    switch (this.state) {
      case TAG:
        return this.afterTag(low, wide);
      case LENGTH:
        return wide || low < 0 ? DONE : this.skip(low);
      default:
        // An int32 is the lower 32 bits of the varint; the last one wins, as in every protobuf parser.
        if (this.groups === 0) {
          if (this.field === STATUS_FIELD) this.status = low;
          else if (this.field === TOKENS_USED_FIELD) this.tokensUsed = low;
        }
        return TAG;
    }
  }

  private afterTag(tag: number, wide: boolean): number {
    this.field = tag >>> 3;
    if (wide || this.field === 0) return DONE;
    switch (tag & 7) {
      case 0:
        return VALUE;
      case 1:
        return this.skip(8);
      case 2:
        return LENGTH;
      case 3:
        this.groups++;
        return TAG;
      case 4:
        return --this.groups < 0 ? DONE : TAG;
      case 5:
        return this.skip(4);
      default:
        return DONE;
    }
  }

  private skip(bytes: number): number {
    // If the message is shorter, `endMessage` notices.
    this.skipBytesLeft = bytes;
    return bytes === 0 ? TAG : SKIP;
  }

  private endMessage(): void {
    // A message that ends within a field is malformed.
    this.seen = this.state === TAG && this.shift === 0 && this.groups === 0;
    this.state = DONE;
  }
}
