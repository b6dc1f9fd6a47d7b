/** Gathers the parts of a header block, and decodes it (RFC 9113 §4.3). */
import { ErrorCode } from './frame.ts';
import type { HeldByConnection } from './held-by-caller.ts';
import { heldRequests } from './held-requests.ts';
import type { HpackDecoder } from './hpack/decoder.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { ConnectionLimits } from './limits.ts';

/** We gather parts up to this size before we decode them, so that not every small part costs a decoding. */
const DECODE_MIN_BYTES = 16_384;
/** The memory of a part beside its bytes. */
const PART_BYTES = 128;

/**
 * A header block that its sender has split into HEADERS and CONTINUATION frames (RFC 9113 §6.10), between which no other
 * frame may come. We decode it while it arrives, so a list above the limit fails only its own stream, and the limit bounds its
 * memory. Limits of bytes and frames bound the block itself; a longer one ends the connection.
 */
export class HeaderBlock {
  /** The stream whose block is open, or 0. */
  streamId = 0;
  endStream = false;
  selfDependent = false;
  /** The code of the connection error that the block causes, and its reason; 0 without one. */
  errorCode = 0;
  error = '';
  private readonly limits: ConnectionLimits;
  private readonly decoder: HpackDecoder;
  private readonly held: HeldByConnection | undefined;
  /** The bytes not decoded yet: the beginning of a field and everything after it. */
  private readonly parts: Buffer[] = [];
  /** The memory of the parts. */
  private partsBytes = 0;
  /** The bytes that have arrived since the latest decoding. */
  private freshBytes = 0;
  /** The size of the open block, or of the latest one. */
  bytes = 0;
  private frames = 0;

  /** @param held counts the memory of an incomplete block; undefined if nothing counts it */
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
   * @returns the list after the `last` part; undefined before it, or with an `errorCode`
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

  /** Keeps a copy of the bytes, because the next read overwrites the buffer. */
  private keep(bytes: Buffer): void {
    if (bytes.length > 0) {
      this.parts.push(Buffer.from(bytes));
      this.partsBytes += bytes.length + PART_BYTES;
    }
    if (this.held !== undefined)
      heldRequests.holdBlock(this.held, PART_BYTES + this.partsBytes + this.decoder.openBytes);
  }

  /** Drops the kept bytes: the block is complete, or its connection has ended. */
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
