import { ErrorCode } from './frame.ts';
import type { ConnectionLimits } from './limits.ts';

/**
 * Gathers a header block that its sender split into HEADERS and CONTINUATION frames (RFC 9113 §6.10). Between
 * them no other frame may come, and what is gathered is bounded by bytes and by frames.
 */
export class HeaderBlock {
  /** The stream whose block is open, or 0. */
  streamId = 0;
  endStream = false;
  selfDependent = false;
  private readonly limits: ConnectionLimits;
  private readonly parts: Buffer[] = [];
  private bytes = 0;
  private frames = 0;

  constructor(limits: ConnectionLimits) {
    this.limits = limits;
  }

  begin(streamId: number, endStream: boolean, selfDependent: boolean): void {
    this.streamId = streamId;
    this.endStream = endStream;
    this.selfDependent = selfDependent;
    this.bytes = 0;
    this.frames = 0;
    this.parts.length = 0;
  }

  /** @returns 0, or the code of the connection error that a block this large deserves */
  add(buffer: Buffer, start: number, end: number): number {
    this.frames++;
    this.bytes += end - start;
    if (this.bytes > this.limits.maxHeaderBlockBytes || this.frames > this.limits.maxContinuations + 1) {
      return ErrorCode.ENHANCE_YOUR_CALM;
    }
    // Copied: the read that they came in is used again.
    this.parts.push(Buffer.from(buffer.subarray(start, end)));
    return 0;
  }

  finish(): Buffer {
    this.streamId = 0;
    const block = Buffer.concat(this.parts, this.bytes);
    this.parts.length = 0;
    return block;
  }
}
