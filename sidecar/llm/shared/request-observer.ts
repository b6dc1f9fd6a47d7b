/** Describes the observers of requests: traces, the access log, `/events`. Without one of them there is no observer. */

import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { HttpHeaders } from './headers.ts';
import type { KeyFileEvents } from './key-file-watch.ts';
import type { Operation } from './operation.ts';
import type { ProviderFailure } from './provider-failure.ts';

export interface LlmRequestInfo {
  readonly operation: Operation;
  readonly method: string;
  /** The path without its query. */
  readonly path: string;
  readonly model: string;
  readonly stream: boolean;
  /** 0 when the request names none. */
  readonly maxOutputTokens: number;
  readonly temperature: number | undefined;
  /** The caller's fields, with `traceparent`. They hold credentials: never write them as a whole. */
  readonly headers: HttpHeaders;
  /** The id of the task that the request is for; '' when none is known. */
  readonly taskId: string;
  /** The caller of the service; '' beside an agent. */
  readonly client: string;
}

export interface LlmAttemptInfo {
  readonly upstream: string;
  /** The provider's host. */
  readonly serverAddress: string;
  readonly serverPort: number;
  /** 1 for the first. */
  readonly attempt: number;
  readonly model: string;
  /** The fields for the provider. An observer may replace `traceparent` and `tracestate`. */
  readonly headers: HttpHeaders;
}

/** The end of a request. Times in milliseconds. */
export interface LlmRecord {
  readonly info: LlmRequestInfo;
  readonly outcome: LlmOutcome;
  /** Why the request failed: `outrigger-reason`, or the provider's status; '' for a success. */
  readonly reason: string;
  /** The status that the caller received; 0 when it left before. */
  readonly status: number;
  /** The upstream of the last attempt; '' without an attempt. */
  readonly upstream: string;
  readonly attempts: number;
  /** The answer is that of an earlier run of the task: no provider was asked. */
  readonly isReplayed: boolean;
  readonly responseModel: string | undefined;
  readonly responseId: string | undefined;
  readonly finishReason: string | undefined;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly wastedTokens: number;
  /** The provider has counted the tokens; otherwise they are an estimate. */
  readonly tokensAreExact: boolean;
  /** What all attempts have cost, in nano-dollars; undefined where a model has no price. */
  readonly costNanos: number | undefined;
  readonly firstByteMs: number;
  readonly durationMs: number;
}

export interface LlmRequestObserver {
  onAttempt(info: LlmAttemptInfo): void;
  onAttemptEnd(failure: ProviderFailure | undefined, status: number): void;
  onEnd(record: LlmRecord): void;
}

export interface LlmObserver {
  /** Returns undefined for a request that no observer follows. */
  begin(info: LlmRequestInfo): LlmRequestObserver | undefined;
}

/** Receives changes between requests, for `/events` and the log. */
export interface LlmEvents extends KeyFileEvents {
  onBreaker(upstream: string, from: string, to: string): void;
  /** One model of an upstream rests. @param because the status of the answer that caused it */
  onCooldown(upstream: string, model: string, forMs: number, because: string): void;
  /** The provider refuses the model until it is paid. @param code the provider's word for that */
  onOutOfCredit(upstream: string, model: string, code: string): void;
  /** A key of a caller of the service can't be used. @param problem why, without the key */
  onCallerKeys?(caller: string, problem: string): void;
}
