/** Describes who is told of each request while it runs: traces, the access log, `/events`. It is absent when nobody listens. */
import type { LlmOutcome } from '../../telemetry/llm-stats.ts';
import type { HttpHeaders } from './headers.ts';
import type { Operation } from './operations.ts';
import type { ProviderFailure } from './provider-failure.ts';

export interface LlmRequestInfo {
  readonly operation: Operation;
  readonly method: string;
  /** Without its query. */
  readonly path: string;
  readonly model: string;
  readonly stream: boolean;
  /** 0 when the request names none. */
  readonly maxOutputTokens: number;
  readonly temperature: number | undefined;
  /** The caller's, with `traceparent`; never to be written anywhere as a whole. */
  readonly headers: HttpHeaders;
  /** Of the task it is made for; '' when none is known. */
  readonly taskId: string;
}

export interface LlmAttemptInfo {
  readonly upstream: string;
  /** The host and port that are asked. */
  readonly serverAddress: string;
  readonly serverPort: number;
  /** 1 for the first. */
  readonly attempt: number;
  readonly model: string;
  /** Go to the provider; `traceparent` and `tracestate` may be written anew. */
  readonly headers: HttpHeaders;
}

/** How a request ended. Times in milliseconds. */
export interface LlmRecord {
  readonly info: LlmRequestInfo;
  readonly outcome: LlmOutcome;
  /** Why, when it was no success: `outrigger-reason`, or the provider's status. */
  readonly reason: string;
  /** That the caller was given; 0 when it left before. */
  readonly status: number;
  /** Who served it, or was asked last; '' when nobody was. */
  readonly upstream: string;
  readonly attempts: number;
  readonly responseModel: string | undefined;
  readonly responseId: string | undefined;
  readonly finishReason: string | undefined;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly wastedTokens: number;
  /** The tokens are the provider's own count, not an estimate. */
  readonly tokensAreExact: boolean;
  readonly firstByteMs: number;
  readonly durationMs: number;
}

export interface LlmRequestObserver {
  onAttempt(info: LlmAttemptInfo): void;
  onAttemptEnd(failure: ProviderFailure | undefined, status: number): void;
  onEnd(record: LlmRecord): void;
}

export interface LlmObserver {
  /** Undefined when this request is of no interest. */
  begin(info: LlmRequestInfo): LlmRequestObserver | undefined;
}

/** What changes between requests; for `/events` and the log. */
export interface LlmEvents {
  onBreaker(upstream: string, from: string, to: string): void;
  /** An upstream is left alone for one of its models. @param because the status of its answer */
  onCooldown(upstream: string, model: string, forMs: number, because: string): void;
  /** It serves the model again only when it is paid for. @param code its own word for that */
  onOutOfCredit(upstream: string, model: string, code: string): void;
}
