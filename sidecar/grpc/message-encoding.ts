/**
 * Reads compressed messages (gRPC's compression.md). The sidecar relays a compressed message unchanged, and inflates
 * only a message whose content it needs, within bounds: whatever its size and ratio, it produces no more bytes than the
 * bound.
 *
 * `gzip` and `deflate` (zlib's format, RFC 1950) are gRPC's own; tonic and Connect add `zstd` and `br`.
 */
import { brotliDecompressSync, constants, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import { PREFIX_BYTES } from './message-framing.ts';

/** The readable part of a message. */
export interface ReadBytes {
  readonly bytes: Buffer;
  /** Whether these bytes are the whole message, and nothing follows them. */
  readonly whole: boolean;
}

/**
 * `unsupported`: unknown encoding. `corrupt`: invalid bytes. `too_large`: even its beginning exceeds the bound.
 * `unfinished`: more bytes are needed, because some encodings come in blocks.
 */
export type Unreadable = 'unsupported' | 'corrupt' | 'too_large' | 'unfinished';

interface Inflated {
  readonly buffer: Buffer;
  /** The native side, which reports how many bytes it has consumed. */
  readonly engine: { readonly bytesWritten: number };
}

interface Decoder {
  readonly inflate: (data: Buffer, options: object) => unknown;
  /** Returns the available part of an incomplete message. */
  readonly flush: number;
  readonly params?: Readonly<Record<number, number>>;
  /** The lowest usable bound: an encoding in blocks is unreadable without its whole first block. */
  readonly leastBytes?: number;
}

/** The largest window that a frame may request: 8 MiB, which RFC 8878 §3.1.1.1.2 recommends to support. */
const ZSTD_WINDOW_LOG_MAX = 23;

/** Sidecars announce the encodings that they read by a bit for each, in this order, which must not change. */
const DECODERS: Readonly<Record<string, Decoder>> = {
  gzip: { inflate: gunzipSync, flush: constants.Z_SYNC_FLUSH },
  deflate: { inflate: inflateSync, flush: constants.Z_SYNC_FLUSH },
  br: { inflate: brotliDecompressSync, flush: constants.BROTLI_OPERATION_FLUSH },
  zstd: {
    inflate: zstdDecompressSync,
    flush: constants.ZSTD_e_flush,
    params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
    // Two blocks (RFC 8878 §3.1.1.2.4).
    leastBytes: 262_144,
  },
};

export const READABLE_ENCODINGS: readonly string[] = Object.keys(DECODERS);

/**
 * The one message of a small exchange, from its prefix to its end.
 *
 * @param maxBytes the limit of the inflated message
 */
export function readOnlyMessage(body: Buffer, encoding: string, maxBytes: number): Buffer | Unreadable {
  if (body.length < PREFIX_BYTES || body.readUInt32BE(1) !== body.length - PREFIX_BYTES) return 'corrupt';
  const data = body.subarray(PREFIX_BYTES);
  if (body[0] === 0) return data;
  const read = body[0] === 1 ? inflateMessage(encoding, data, true, maxBytes) : 'corrupt';
  if (typeof read === 'string') return read;
  return read.whole && read.bytes.length <= maxBytes ? read.bytes : 'too_large';
}

export const ALL_ENCODING_BITS = 2 ** READABLE_ENCODINGS.length - 1;

/** The bit of an encoding, or 0 for an unsupported one. */
export function encodingBit(encoding: string): number {
  const index = READABLE_ENCODINGS.indexOf(encoding);
  return index < 0 ? 0 : 2 ** index;
}

/**
 * The encodings that a caller can read beside plain messages, in a fixed order and without repetitions: those in its
 * `grpc-accept-encoding`, and the one that it sends itself.
 */
export function acceptedEncodings(acceptEncoding: string, encoding: string): readonly string[] {
  const names = `${acceptEncoding},${encoding}`.split(',').map((name) => name.trim());
  return [...new Set(names)].filter((name) => name !== '' && name !== 'identity').sort();
}

/** The bytes in which we search for the beginning of a message: deflate expands them to 32 KiB at most. */
const FIRST_PREFIX_BYTES = 32;

/**
 * Inflates a message's bytes synchronously, so keep the bound low: a MiB of output may take three milliseconds.
 *
 * @param encoding `grpc-encoding`
 * @param complete true if the message ends with these bytes; otherwise the available part is read
 * @param maxBytes a longer message gives only its beginning; for zstd the bound is 256 KiB or more
 */
export function inflateMessage(
  encoding: string,
  data: Buffer,
  complete: boolean,
  maxBytes: number,
): ReadBytes | Unreadable {
  if (!Object.hasOwn(DECODERS, encoding)) return 'unsupported';
  const decoder = DECODERS[encoding]!;
  const mostBytes = Math.max(maxBytes, decoder.leastBytes ?? 0);
  const inflated = inflate(decoder, data, complete, mostBytes);
  if (inflated === 'too_large') return beginningOf(decoder, data, mostBytes);
  if (inflated === 'corrupt') return 'corrupt';
  if (!complete && inflated.buffer.length === 0) return 'unfinished';
  // The inflater ignored bytes after the end of the stream; other readers may take them for data.
  return { bytes: inflated.buffer, whole: complete && inflated.engine.bytesWritten === data.length };
}

function inflate(
  { inflate, flush, params }: Decoder,
  data: Buffer,
  complete: boolean,
  maxBytes: number,
): Inflated | 'too_large' | 'corrupt' {
  const options = {
    info: true,
    maxOutputLength: maxBytes,
    ...(complete ? {} : { finishFlush: flush }),
    ...(params === undefined ? {} : { params }),
  };
  try {
    return inflate(data, options) as Inflated;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE' ? 'too_large' : 'corrupt';
  }
}

/** The number of bisection steps between a prefix that gives nothing and one that gives too much. */
const MAX_HALVINGS = 8;

/**
 * Node returns all of a message or nothing, so we inflate prefixes whose output surely fits, doubling each time. For an
 * encoding with large blocks, bisect between the last prefix that gave nothing and the first that gave too much.
 */
function beginningOf(decoder: Decoder, data: Buffer, maxBytes: number): ReadBytes | Unreadable {
  let bytes: Buffer = Buffer.alloc(0);
  let fits = 0;
  let tooMuch = data.length;
  for (let length = FIRST_PREFIX_BYTES; length < data.length; length *= 2) {
    const inflated = inflate(decoder, data.subarray(0, length), false, maxBytes);
    if (inflated === 'corrupt') return 'corrupt';
    if (inflated === 'too_large') {
      tooMuch = length;
      break;
    }
    fits = length;
    bytes = inflated.buffer;
  }
  for (let i = 0; i < MAX_HALVINGS && bytes.length === 0 && tooMuch - fits > 1; i++) {
    const length = (fits + tooMuch) >> 1;
    const inflated = inflate(decoder, data.subarray(0, length), false, maxBytes);
    if (inflated === 'corrupt') return 'corrupt';
    if (inflated === 'too_large') tooMuch = length;
    else {
      fits = length;
      bytes = inflated.buffer;
    }
  }
  return bytes.length === 0 ? 'too_large' : { bytes, whole: false };
}
