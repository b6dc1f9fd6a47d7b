/**
 * Limits what one peer can make us do. For each limit we say how we answer, so that a flood harms only the connection that
 * sends it.
 */
export interface ConnectionLimits {
  /** The streams that a peer may have open; we refuse one more with REFUSED_STREAM. */
  readonly maxConcurrentStreams: number;
  /**
   * The largest decoded header list (RFC 9113 §6.5.2 counts 32 bytes a field). A larger one fails its call, and not the
   * connection. Our SETTINGS announce it to callers.
   */
  readonly maxHeaderListBytes: number;
  /**
   * The largest encoded header block over all its CONTINUATION frames; above it GOAWAY ENHANCE_YOUR_CALM. It is far above the
   * limit of the list, so that a call with too much metadata is answered and does not end the calls beside it. Our SETTINGS
   * announce it to servers as the largest list: some servers reset a stream whose trailers exceed the announced size, and the
   * status is lost with the trailers. Of trailers that are too large for us we keep the status.
   */
  readonly maxHeaderBlockBytes: number;
  /** The CONTINUATION frames of one block, including empty ones (CVE-2024-27316). */
  readonly maxContinuations: number;
  /**
   * The streams that a peer may reset, or waste in another way, at once; later it may waste 200 a second, and one for each
   * that ends in order (`flood-guard.ts`). Above it the peer receives GOAWAY (`wasted-streams.ts`).
   */
  readonly cancelBurst: number;
  /** The names of fields that we keep of a list above the limit, wherever they stand in it. */
  readonly keptFields: ReadonlySet<string>;
  /** The receive window of a stream: the most bytes that we hold of one call in one direction. */
  readonly streamWindowBytes: number;
  /** The receive window of a connection. We reopen it when bytes arrive, while `maxBufferedBytes` allows it. */
  readonly connectionWindowBytes: number;
  /** The bytes of one connection that wait for slow readers; above it we do not reopen the connection's window. */
  readonly maxBufferedBytes: number;
}

const MIN_HEADER_BLOCK_BYTES = 1_048_576;
const HEADER_BLOCK_FACTOR = 16;

/** The limits that follow from the largest header list. */
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
