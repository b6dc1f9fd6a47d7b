/** Describes the options of a provider attempt, its owner, and its end. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import type { Sink } from '../caller/sink.ts';
import type { AnswerFacts } from '../kinds/answer-facts.ts';
import type { ProviderKind } from '../kinds/traits.ts';
import type { ProviderConnections } from '../relay/provider-connections.ts';
import type { RelayRequest } from '../relay/relay-request.ts';
import type { RequestFacts } from '../request/request-facts.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';
import type { FailureContext } from './describe-failure.ts';

export interface ProviderAttemptOptions extends FailureContext {
  readonly request: RelayRequest;
  readonly connections: ProviderConnections;
  readonly kind: ProviderKind;
  readonly facts: RequestFacts;
  readonly sink: Sink;
  readonly wheel: TimerWheel;
  /** Another upstream gets the request when the first event of a stream does not come. */
  readonly resend: boolean;
  readonly stripUsage: boolean;
  readonly maxOutputEvents: number;
}

/** The owner of an attempt decides for it, and receives its progress. */
export interface ProviderAttemptOwner {
  /** The provider's headers are here, with any status. */
  onHeaders(status: number, headers: HttpHeaders): void;
  /** Decides on an answer that is an error: true passes it on, false drops it for another attempt. */
  passesOn(failure: ProviderFailure, body: Buffer): boolean;
  /** Returns the caller's headers of an answer that passes now. @param isEvents the answer's length may change */
  headersFor(status: number, headers: HttpHeaders, isEvents: boolean): HttpHeaders;
  /** The caller receives the answer: no other attempt follows. */
  onCommit(status: number): void;
  /** The bytes so far are an answer, and no error. */
  onAnswer(): void;
  onEnd(end: ProviderAttemptEnd): void;
}

export interface ProviderAttemptEnd {
  readonly committed: boolean;
  /** Undefined when the whole answer, with any status, has passed. */
  readonly failure: ProviderFailure | undefined;
  /** The provider's status; 0 without an answer. */
  readonly status: number;
  /** The held part of an error's body; for an error inside an answer, its message. */
  readonly errorBody: Buffer;
  readonly facts: AnswerFacts;
  readonly estimatedOutputTokens: number;
  /** Milliseconds from the start to the first byte; 0 without one. */
  readonly firstByteMs: number;
  /** The provider had closed the idle connection, and did not work on the request. */
  readonly stale: boolean;
}
