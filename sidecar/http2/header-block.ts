import { ErrorCode } from './frame.ts';
import type { HeldByConnection } from './held-by-caller.ts';
import { heldRequests } from './held-requests.ts';
import type { HpackDecoder } from './hpack/decoder.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';

/** Parts are gathered up to this before they are decoded, so that small ones cost no decoding each. */
const DECODE_MIN_BYTES = 16_384;
/** What a part costs beside its bytes. */
const PART_BYTES = 128;

/**
 * A header block that its sender split into HEADERS and CONTINUATION frames (RFC 9113 §6.10). Between them no other frame
 * may come. It is decoded as it comes: a list above the limit costs its own stream, and what is held of it is bounded by
 * the limit. How long it may go on is bounded, too, by bytes and by frames: what is longer ends the connection.
 */
export class HeaderBlock {
  /** The stream whose block is open, or 0. */
  streamId = 0;
  endStream = false;
  selfDependent = false;
  /** The code of the connection error that the block deserves, and why; 0 without one. */
  errorCode = 0;
  error = '';
  private readonly limits: ConnectionLimits;
  private readonly decoder: HpackDecoder;
  private readonly held: HeldByConnection | undefined;
  /** Bytes that are not decoded yet: the beginning of a field and everything behind it. */
  private readonly parts: Buffer[] = [];
  /** What they cost. */
  private partsBytes = 0;
  /** Bytes of them that came since the last try. */
  private freshBytes = 0;
  /** Of the block that is open, or was the last one. */
  bytes = 0;
  private frames = 0;

  /** @param held where a block counts whose end has not come; undefined where it does not */
  constructor(limits: ConnectionLimits, decoder: HpackDecoder, held?: HeldByConnection) {
    this.limits = limits;
    this.decoder = decoder;
    this.held = held;
  }

  begin(streamId: number, endStream: boolean, selfDependent: boolean): void {
    this.streamId = streamId;
    this.endStream = endStream;
    this.selfDependent = selfDependent;
    this.errorCode = 0;
    this.bytes = 0;
    this.frames = 0;
    this.parts.length = 0;
    this.partsBytes = 0;
    this.freshBytes = 0;
    this.decoder.begin();
  }

  /**
   * Takes the next part.
   *
   * @returns the list when it was the `last` one; undefined when more is to come, or with an `errorCode`
   */
  add(buffer: Buffer, start: number, end: number, last: boolean): HeaderList | undefined {
    this.frames++;
    this.bytes += end - start;
    const { maxHeaderBlockBytes, maxContinuations } = this.limits;
    if (this.bytes > maxHeaderBlockBytes || this.frames > maxContinuations + 1)
      return this.fail(
        ErrorCode.ENHANCE_YOUR_CALM,
        'a header block is too large; send fewer or shorter fields',
      );
    const here = buffer.subarray(start, end);
    this.freshBytes += here.length;
    if (!last && this.freshBytes < DECODE_MIN_BYTES) {
      this.keep(here);
      return undefined;
    }
    const whole = this.parts.length === 0 ? here : Buffer.concat([...this.parts, here]);
    const used = this.decoder.more(whole, 0, whole.length);
    if (used < 0) return this.fail(ErrorCode.COMPRESSION_ERROR, `HPACK: ${this.decoder.error}`);
    this.parts.length = 0;
    this.partsBytes = 0;
    this.freshBytes = 0;
    if (!last) {
      this.keep(whole.subarray(used));
      return undefined;
    }
    this.streamId = 0;
    this.drop();
    const list = this.decoder.finish(whole.length - used);
    return list ?? this.fail(ErrorCode.COMPRESSION_ERROR, `HPACK: ${this.decoder.error}`);
  }

  /** Copied: the read that they came in is used again. */
  private keep(bytes: Buffer): void {
    if (bytes.length > 0) {
      this.parts.push(Buffer.from(bytes));
      this.partsBytes += bytes.length + PART_BYTES;
    }
    if (this.held !== undefined)
      heldRequests.holdBlock(this.held, PART_BYTES + this.partsBytes + this.decoder.openBytes);
  }

  /** Forgets what is kept: the block is whole, or its connection has ended. */
  drop(): void {
    this.parts.length = 0;
    this.partsBytes = 0;
    if (this.held !== undefined) heldRequests.holdBlock(this.held, 0);
  }

  private fail(code: number, error: string): undefined {
    this.errorCode = code;
    this.error = error;
    return undefined;
  }
}
