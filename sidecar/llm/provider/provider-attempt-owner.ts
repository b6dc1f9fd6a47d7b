/** Names what a provider attempt is given, what it asks its owner while it runs, and what it came to. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { AnswerFacts } from '../answer/usage.ts';
import type { Sink } from '../caller/sink.ts';
import type { RelayRequest } from '../relay/relay-request.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';
import type { FailureContext } from './describe-failure.ts';

export interface ProviderAttemptOptions extends FailureContext {
  readonly request: RelayRequest;
  readonly facts: RequestFacts;
  readonly sink: Sink;
  readonly wheel: TimerWheel;
  /** Somebody else is asked when the first event of a stream does not come. */
  readonly resend: boolean;
  readonly stripUsage: boolean;
  readonly maxOutputEvents: number;
}

/** The attempt's questions and news while it runs. */
export interface ProviderAttemptOwner {
  /** The provider's headers, whatever the status. */
  onHeaders(status: number, headers: HttpHeaders): void;
  /** An answer that is an error, with its body: true passes it on, false leaves it for another attempt. */
  passesOn(failure: ProviderFailure, body: Buffer): boolean;
  /** The headers for the caller, of an answer that is passed on now. @param isEvents its length may change */
  headersFor(status: number, headers: HttpHeaders, isEvents: boolean): HttpHeaders;
  /** The caller gets it: from now on there is no other attempt. */
  onCommit(status: number): void;
  /** The bytes so far are an answer, and no error. */
  onAnswer(): void;
  onEnd(end: ProviderAttemptEnd): void;
}

export interface ProviderAttemptEnd {
  readonly committed: boolean;
  /** Undefined when the answer, of whatever status, was passed on whole. */
  readonly failure: ProviderFailure | undefined;
  /** The provider's; 0 when it gave none. */
  readonly status: number;
  /** Of an answer that is an error, as far as it was held; of an error within an answer, its message. */
  readonly errorBody: Buffer;
  readonly facts: AnswerFacts;
  readonly estimatedOutputTokens: number;
  /** From the start; 0 when none came. */
  readonly firstByteMs: number;
  /** The connection had been closed while it idled, and the request was not worked on. */
  readonly stale: boolean;
}
