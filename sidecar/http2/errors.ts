/** The errors of connections and of streams. */
import { ErrorCode, errorName } from './frame.ts';

/** Why a connection ended before its owner asked for it. */
export class ConnectionError extends Error {
  /** The RFC 9113 §7 code that we sent or received, or that stands for the cause. */
  readonly code: number;
  /** The cause: the peer broke a rule (`peer`), the network failed (`network`), or we ended it (`local`). */
  readonly source: 'peer' | 'network' | 'local';
  /** A short word for counters: the code's name in lower case, or `http1`. */
  readonly reason: string;

  constructor(
    source: 'peer' | 'network' | 'local',
    code: number,
    message: string,
    reason = errorName(code).toLowerCase(),
    cause?: unknown,
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'ConnectionError';
    this.source = source;
    this.code = code;
    this.reason = reason;
  }
}

/**
 * Why a stream ended without END_STREAM.
 *
 * `reset`: the peer sent RST_STREAM. `goaway`: the peer's GOAWAY says that it has not processed the stream. `connection`: the
 * connection has closed. `protocol`: the peer broke a rule on this stream, and we have reset it. `stalled`: the reader does
 * not read and no memory is left for waiting bytes, so we have reset the stream.
 */
export interface StreamFailure {
  readonly kind: 'reset' | 'goaway' | 'connection' | 'protocol' | 'stalled';
  readonly code: number;
  /** True when the peer provably never processed the stream, so that sending it again elsewhere is safe. */
  readonly unprocessed: boolean;
  readonly message: string;
  readonly cause: Error | undefined;
}

/** For RST_STREAM from the peer. REFUSED_STREAM promises that the peer processed nothing (RFC 9113 §8.7). */
export function failureFromReset(code: number): StreamFailure {
  const unprocessed = code === ErrorCode.REFUSED_STREAM;
  return {
    kind: 'reset',
    code,
    unprocessed,
    message: `the peer reset the stream: ${errorName(code)}`,
    cause: undefined,
  };
}

/** For a stream above the last stream id of the peer's GOAWAY (RFC 9113 §6.8). */
export function failureFromGoaway(code: number): StreamFailure {
  return {
    kind: 'goaway',
    code,
    unprocessed: true,
    message: `the peer is going away (${errorName(code)}) and did not process the stream`,
    cause: undefined,
  };
}

/** @param unprocessed whether no byte of the stream can have reached the peer */
export function failureFromConnection(error: ConnectionError, unprocessed: boolean): StreamFailure {
  return { kind: 'connection', code: error.code, unprocessed, message: error.message, cause: error };
}

export function failureFromProtocol(code: number, message: string): StreamFailure {
  return { kind: 'protocol', code, unprocessed: false, message, cause: undefined };
}

/** For a stream that we reset for lack of memory; see `queued-memory.ts`. */
export const FAILURE_FROM_STALL: StreamFailure = {
  kind: 'stalled',
  code: ErrorCode.ENHANCE_YOUR_CALM,
  unprocessed: false,
  message: 'its reader does not read, and too many bytes wait for such readers',
  cause: undefined,
};
