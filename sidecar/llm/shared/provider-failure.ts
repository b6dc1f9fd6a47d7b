/** Says in which ways an attempt at a provider can fail. Retries, breakers, refusals and traces go by it. */

/** The clocks of an attempt (`provider/provider-attempt-clocks.ts`). */
export type ClockName =
  | 'connect_timeout'
  | 'first_byte_timeout'
  | 'idle_timeout'
  | 'timeout'
  | 'client'
  | 'held_head'
  | 'call';

/** Why an attempt failed; also the reason that an answer of our own gives. */
export type ProviderFailureReason =
  | 'status'
  | 'connect_failed'
  | 'connection_lost'
  | 'upstream_protocol'
  | 'first_byte'
  | 'idle'
  | 'deadline'
  | 'stream_cut'
  | 'answer_cut'
  | 'malformed_answer'
  | 'answer_too_large'
  | 'budget_exhausted'
  | 'draining';

export interface ProviderFailure {
  readonly reason: ProviderFailureReason;
  /** Of the provider's answer; 0 when there was none. */
  readonly status: number;
  /** What it asked for, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** Its `x-should-retry`. */
  readonly shouldRetry: boolean | undefined;
  /** It wants to be paid first: its word for that. */
  readonly outOfCredit: string | undefined;
  /** The clock that was over, where one was. */
  readonly clock: ClockName | undefined;
  /** For people; never holds a key or anything of a body. */
  readonly message: string;
  /** The provider may have worked for it: its tokens count as spent. */
  readonly mayHaveCost: boolean;
  /** The whole request was sent and nothing is known of it: the provider may be working, and may have answered. */
  readonly mayBeRunning: boolean;
  /** Through most of a whole clock no request got a sign of life from the upstream, this one or another. */
  readonly upstreamWasSilent: boolean;
}
