/**
 * Reads compressed messages (gRPC's compression.md): what passes on passes on as it came, and of a message that something
 * hangs on its bytes are inflated here, within bounds: whatever its size and ratio, no more than they say is made of it.
 *
 * `gzip` and `deflate` (zlib's format, RFC 1950) are gRPC's own; `zstd` and `br` are those of tonic and Connect.
 */
import { brotliDecompressSync, constants, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib';
import { PREFIX_BYTES } from './message-framing.ts';

/** As far as a message could be read. */
export interface ReadBytes {
  readonly bytes: Buffer;
  /** These are all of it, and nothing follows them. */
  readonly whole: boolean;
}

/**
 * `unsupported`: by its encoding. `corrupt`: its bytes are not what they should be. `too_large`: even its beginning is.
 * `unfinished`: there is too little of it yet, for some encodings come in blocks.
 */
export type Unreadable = 'unsupported' | 'corrupt' | 'too_large' | 'unfinished';

interface Inflated {
  readonly buffer: Buffer;
  /** The native side, which knows how many bytes it has taken in. */
  readonly engine: { readonly bytesWritten: number };
}

interface Decoder {
  readonly inflate: (data: Buffer, options: object) => unknown;
  /** Gives what there is of a message that goes on. */
  readonly flush: number;
  readonly params?: Readonly<Record<number, number>>;
  /** The bound is no lower than that: what comes in blocks can't be read without the first. */
  readonly leastBytes?: number;
}

/** A frame may ask for a window of so much memory: 8 MiB, what RFC 8878 §3.1.1.1.2 recommends to support. */
const ZSTD_WINDOW_LOG_MAX = 23;

/** Sidecars tell each other which they read, by a bit for each in this order, which must not change. */
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
 * @param maxBytes of the message, once it is inflated
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

/** The bit of an encoding, or 0 for one that can't be read. */
export function encodingBit(encoding: string): number {
  const index = READABLE_ENCODINGS.indexOf(encoding);
  return index < 0 ? 0 : 2 ** index;
}

/**
 * What a caller can read beside plain messages, in one order and without repetitions: what it says in
 * `grpc-accept-encoding`, and what it writes itself.
 */
export function acceptedEncodings(acceptEncoding: string, encoding: string): readonly string[] {
  const names = `${acceptEncoding},${encoding}`.split(',').map((name) => name.trim());
  return [...new Set(names)].filter((name) => name !== '' && name !== 'identity').sort();
}

/** Where the beginning of a message is looked for: deflate makes 32 KiB of these at most. */
const FIRST_PREFIX_BYTES = 32;

/**
 * Inflates a message's bytes at once, so there must not be many: a MiB of what comes out may take three milliseconds.
 *
 * @param encoding `grpc-encoding`
 * @param complete the message ends with these bytes; otherwise what there is of it is read
 * @param maxBytes of a message that would be longer a beginning is given; of zstd's it is 256 KiB at least
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
  // Bytes behind the end of the stream were not looked at; other readers may take them for data.
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

/** Halvings between a prefix that gives nothing and one that gives too much. */
const MAX_HALVINGS = 8;

/**
 * Node gives all of a message or nothing: as much of it is inflated as is sure to fit, in steps that double. What comes in
 * large blocks is looked for between the last step that gave nothing and the first that gave too much.
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
