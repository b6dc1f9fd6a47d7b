/** Encodes header lists, and sends them as HEADERS and CONTINUATION. */
import { Flag, FrameType } from './frame.ts';
import { HpackEncoder, literalSize, writeLiteral } from './hpack/encoder.ts';
import type { KnownName } from './hpack/field-treatment.ts';
import type { HeaderList } from './hpack/header-list.ts';
import type { FrameWriter } from './writer.ts';

/** Up to this size a loop is faster than the native call of Buffer.copy. */
const LOOP_MAX_BYTES = 64;

/** All connections share one buffer to join blocks of several frames, up to this size. */
const JOINED_BYTES = 256 * 1024;
let joined: Buffer | undefined;

function roomFor(bytes: number): Buffer {
  if (bytes > JOINED_BYTES) return Buffer.allocUnsafeSlow(bytes);
  joined ??= Buffer.allocUnsafeSlow(JOINED_BYTES);
  return joined;
}

/** Encodes header lists and writes them as HEADERS and, when they are large, CONTINUATION frames (RFC 9113 §6.10). */
export class HeaderSender {
  readonly encoder: HpackEncoder;
  private readonly writer: FrameWriter;

  constructor(writer: FrameWriter, knownNames?: ReadonlyMap<string, KnownName>) {
    this.encoder = new HpackEncoder({ knownNames });
    this.writer = writer;
  }

  /**
   * @param extra further fields (name, value, …) of this call only, which follow the list as literals, so that the encoder can
   *   remember the encoded list
   * @param literals further fields that are already encoded
   */
  send(
    streamId: number,
    list: HeaderList,
    extra: readonly string[] | undefined,
    endStream: boolean,
    maxFrameBytes: number,
    literals?: Buffer,
  ): void {
    const encoder = this.encoder;
    encoder.encode(list);
    const blockBytes = encoder.blockEnd;
    let bytes = blockBytes;
    if (extra !== undefined) {
      for (let i = 0; i < extra.length; i += 2) bytes += literalSize(extra[i]!, extra[i + 1]!);
    }
    if (literals !== undefined) bytes += literals.length;
    const endFlag = endStream ? Flag.END_STREAM : 0;
    if (bytes > maxFrameBytes) {
      this.sendInPieces(streamId, extra, literals, bytes, endFlag, maxFrameBytes);
      return;
    }
    let at = this.writer.beginFrame(bytes, FrameType.HEADERS, Flag.END_HEADERS | endFlag, streamId);
    const out = this.writer.buffer;
    const block = encoder.block;
    if (blockBytes <= LOOP_MAX_BYTES) {
      for (let i = 0; i < blockBytes; i++) out[at++] = block[i]!;
    } else {
      at += block.copy(out, at, 0, blockBytes);
    }
    if (extra !== undefined) {
      for (let i = 0; i < extra.length; i += 2) at = writeLiteral(out, at, extra[i]!, extra[i + 1]!);
    }
    if (literals !== undefined) for (let i = 0; i < literals.length; i++) out[at++] = literals[i]!;
  }

  private sendInPieces(
    streamId: number,
    extra: readonly string[] | undefined,
    literals: Buffer | undefined,
    bytes: number,
    endFlag: number,
    maxFrameBytes: number,
  ): void {
    const whole = roomFor(bytes);
    let at = this.encoder.block.copy(whole, 0, 0, this.encoder.blockEnd);
    if (extra !== undefined) {
      for (let i = 0; i < extra.length; i += 2) at = writeLiteral(whole, at, extra[i]!, extra[i + 1]!);
    }
    literals?.copy(whole, at);
    for (let start = 0; start < bytes; start += maxFrameBytes) {
      const end = Math.min(start + maxFrameBytes, bytes);
      const type = start === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      const flags = (start === 0 ? endFlag : 0) | (end === bytes ? Flag.END_HEADERS : 0);
      this.writer.frame(type, flags, streamId, whole, start, end);
    }
  }
}
