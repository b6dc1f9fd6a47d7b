/**
 * What one peer may make us do. Each limit has its stated answer, so that a flood costs the connection that
 * sends it and nobody else.
 */
export interface ConnectionLimits {
  /** Most streams a peer may have open; one more is refused with REFUSED_STREAM. */
  readonly maxConcurrentStreams: number;
  /**
   * Largest decoded header list (RFC 9113 §6.5.2 counts 32 bytes a field); above it the call is answered, not the
   * connection. Callers are told of it.
   */
  readonly maxHeaderListBytes: number;
  /**
   * Largest encoded header block over all its CONTINUATION frames; above it GOAWAY ENHANCE_YOUR_CALM. Well above the
   * list, so that a call with too much metadata is answered and does not take the calls beside it along. It is what
   * servers are told as the largest list: some reset a stream whose trailers are above what they were told, and the
   * status is lost with the trailers; of those that come, the status is kept.
   */
  readonly maxHeaderBlockBytes: number;
  /** Most CONTINUATION frames of one block, empty ones too (CVE-2024-27316's kind of flood). */
  readonly maxContinuations: number;
  /**
   * Streams that a peer may reset at once, and then 200 a second and one for each that ends in order; above it the
   * connection is asked to go (`goaway.ts`). So much a peer may spoil at once in any other way, too (`flood-guard.ts`).
   */
  readonly cancelBurst: number;
  /** Names of fields that are kept of a list above the limit, wherever they stand in it. */
  readonly keptFields: ReadonlySet<string>;
  /** Receive window of a stream: the most we ever hold of one call in one direction. */
  readonly streamWindowBytes: number;
  /** Receive window of a connection, given back as soon as bytes arrive while `maxBufferedBytes` allows it. */
  readonly connectionWindowBytes: number;
  /** Bytes of one connection that wait for slow readers; above it the connection's window is no longer given back. */
  readonly maxBufferedBytes: number;
}

const MIN_HEADER_BLOCK_BYTES = 1_048_576;
const HEADER_BLOCK_FACTOR = 16;

/** The limits that go with the largest header list. */
export function headerLimits(
  maxHeaderListBytes: number,
): Pick<ConnectionLimits, 'maxHeaderListBytes' | 'maxHeaderBlockBytes'> {
  const maxHeaderBlockBytes = Math.max(MIN_HEADER_BLOCK_BYTES, HEADER_BLOCK_FACTOR * maxHeaderListBytes);
  return { maxHeaderListBytes, maxHeaderBlockBytes };
}

export const DEFAULT_LIMITS: ConnectionLimits = {
  maxConcurrentStreams: 1024,
  ...headerLimits(65_536),
  maxContinuations: 2_048,
  cancelBurst: 4_000,
  keptFields: new Set(),
  streamWindowBytes: 262_144,
  connectionWindowBytes: 4_194_304,
  maxBufferedBytes: 33_554_432,
};
