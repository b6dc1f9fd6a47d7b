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
   * connection is asked to go (`Connection.retire`).
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

/** A bucket that refills with time and with useful work; empty means that the peer only makes work. */
class Allowance {
  private readonly capacity: number;
  private readonly perSecond: number;
  private tokens: number;
  private refilledAtMs: number;

  constructor(initial: number, capacity: number, perSecond: number, nowMs: number) {
    this.capacity = capacity;
    this.perSecond = perSecond;
    this.tokens = initial;
    this.refilledAtMs = nowMs;
  }

  earn(count: number): void {
    this.tokens = Math.min(this.capacity, this.tokens + count);
  }

  /** The clock is read only when the bucket runs dry, so that a peaceful peer costs a subtraction. */
  spend(clock: () => number): boolean {
    if (--this.tokens >= 0) return true;
    const nowMs = clock();
    this.tokens = Math.min(this.capacity, ((nowMs - this.refilledAtMs) / 1000) * this.perSecond) - 1;
    this.refilledAtMs = nowMs;
    return this.tokens >= 0;
  }
}

/** Cancels and stream errors that a peer may cause each second, for as long as it likes. */
const RESETS_PER_SECOND = 200;
const GRACE_CANCELS = 1_000;
const AT_ONCE_SHARE = 0.9;
/** Calls that a peer may begin behind our GOAWAY: a busy one reads it late, and begins thousands a second. */
const LATE_CALLS = 32_768;

/**
 * Counts what floods are made of. Control frames (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
 * types, interim responses, frames that come too late for their stream) and resets (the peer's own, and those its errors provoke from us: CVE-2023-44487 and its successor)
 * spend an allowance; streams that finish and data that moves earn it back. A caller that cancels much of what
 * it starts is legal, and others may share its connection: the allowance for that is generous, and what lies beyond it
 * ends no running call. A peer's errors have one of their own.
 */
export class FloodGuard {
  private readonly control: Allowance;
  private readonly cancels: Allowance;
  private readonly faults: Allowance;
  private readonly late: Allowance;
  private cancelled = 0;
  private cancelledAtOnce = 0;
  private readonly clock: () => number;

  constructor(clock: () => number, limits: ConnectionLimits) {
    this.clock = clock;
    const nowMs = clock();
    this.control = new Allowance(2_000, 10_000, 100, nowMs);
    this.cancels = new Allowance(limits.cancelBurst, limits.cancelBurst, RESETS_PER_SECOND, nowMs);
    // It may get all of them wrong that it may have open.
    const faults = limits.maxConcurrentStreams + 100;
    this.faults = new Allowance(faults, 2 * faults, RESETS_PER_SECOND, nowMs);
    this.late = new Allowance(LATE_CALLS, LATE_CALLS, RESETS_PER_SECOND, nowMs);
  }

  /** One control frame came in. False: answer GOAWAY ENHANCE_YOUR_CALM. */
  controlFrame(): boolean {
    return this.control.spend(this.clock);
  }

  /** HEADERS of a call, or DATA with bytes, moved in either direction: it entitles the peer to some control frames. */
  progress(): void {
    this.control.earn(4);
  }

  /** A few bytes moved because the peer's window is tiny: the WINDOW_UPDATE that let them through is paid for. */
  trickle(): void {
    this.control.earn(1);
  }

  /**
   * The peer reset a stream. False: it has reset so many that it should go on with another connection.
   *
   * @param atOnce the same read had brought the stream
   */
  cancel(atOnce: boolean): boolean {
    this.cancelled++;
    if (atOnce) this.cancelledAtOnce++;
    return this.cancels.spend(this.clock);
  }

  /** Hardly any of what it has cancelled had lived. */
  get cancelsAtOnce(): boolean {
    return this.cancelledAtOnce >= AT_ONCE_SHARE * this.cancelled;
  }

  /** Some more, for a peer that has been asked to go and may not have heard it yet. */
  allowCancels(): void {
    this.cancels.earn(GRACE_CANCELS);
  }

  /** A stream was reset by us for the peer's fault. False: answer GOAWAY ENHANCE_YOUR_CALM. */
  fault(): boolean {
    return this.faults.spend(this.clock);
  }

  /** The peer began a call behind our GOAWAY. Its RST_STREAM is paid with it. False: it does not mean to go. */
  lateCall(): boolean {
    this.control.earn(1);
    return this.late.spend(this.clock);
  }

  streamFinished(): void {
    this.cancels.earn(1);
    this.faults.earn(1);
  }
}
