/** Names the ways in which a provider attempt can fail. Retries, breakers, refusals and traces use them. */

/** The clocks of an attempt (`provider/provider-attempt-clocks.ts`). */
export type ClockName =
  | 'connect_timeout'
  | 'first_byte_timeout'
  | 'idle_timeout'
  | 'timeout'
  | 'client'
  | 'held_head'
  | 'call';

/** Why an attempt failed. A refusal has the same reason. */
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
  /** The status of the provider's answer; 0 without an answer. */
  readonly status: number;
  /** The wait that the provider asked for, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** The provider's `x-should-retry`. */
  readonly shouldRetry: boolean | undefined;
  /** The provider's word for a missing payment; undefined for another failure. */
  readonly outOfCredit: string | undefined;
  /** The clock that was over; undefined for another failure. */
  readonly clock: ClockName | undefined;
  /** Describes the failure for operators; never holds a key or a part of a body. */
  readonly message: string;
  /** The provider may have worked on the request: its tokens count as spent. */
  readonly mayHaveCost: boolean;
  /** The provider has the whole request and its outcome is unknown: it may be working, or may have answered. */
  readonly mayBeRunning: boolean;
  /** Through most of a whole clock, no request had a sign of life from the upstream, neither this one nor another. */
  readonly upstreamWasSilent: boolean;
}
