/**
 * The settings of the egress as it reads them; the configuration's `llm` section has this shape. What each setting
 * does is said once, in the schema's descriptions. A duration of 0 means "off" unless it says otherwise.
 */
import type { AddedField } from './addable-fields.ts';

export interface LlmSettings {
  /** In order of preference. */
  readonly upstreams: readonly LlmUpstreamSettings[];
  readonly connectTimeoutMs: number;
  readonly firstByteTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly timeoutMs: number;
  readonly webSocketIdleTimeoutMs: number;
  readonly retry: LlmRetrySettings;
  readonly circuitBreaker: LlmBreakerSettings;
  readonly limits: LlmLimitSettings;
  /** When the usage of a streamed chat completion is asked for on the caller's behalf. */
  readonly streamUsage: 'auto' | 'always' | 'never';
  readonly singleFlight: boolean;
  readonly logBodies: boolean;
}

export interface LlmUpstreamSettings {
  readonly name: string;
  /** May hold credentials: never print it. */
  readonly url: string;
  /** The environment variable that holds the key. */
  readonly apiKeyEnv: string | undefined;
  /** Replaces the model a request names; `undefined` leaves it. */
  readonly model: string | undefined;
  /** Fields that policies may add to its requests; undefined goes by its host. */
  readonly adds: readonly AddedField[] | undefined;
}

export interface LlmRetrySettings {
  /** The first one included, over all upstreams. */
  readonly maxAttempts: number;
  /** The longest time that a provider may ask for and a request waits for. */
  readonly maxRetryAfterMs: number;
  /** Send again what was sent whole and not answered, though it may be running and be paid for twice. */
  readonly resend: boolean;
  readonly backoff: { readonly baseMs: number; readonly maxMs: number };
  /** Try again after a plain answer that broke off or is no JSON, though it has cost tokens. */
  readonly incompleteAnswers: boolean;
}

export interface LlmBreakerSettings {
  /** 0 is off. */
  readonly failurePercent: number;
  readonly minCalls: number;
  readonly windowMs: number;
  readonly recoveryTimeoutMs: number;
}

export interface LlmLimitSettings {
  /** 0 is none, here and in the next two. */
  readonly requestsPerMinute: number;
  readonly tokensPerMinute: number;
  readonly tokensPerTask: number;
  /** What is reserved, and asked for where a budget holds, when a request names no maximum of its own. */
  readonly defaultOutputTokens: number;
  /** How long a request may wait for the limits of a minute. */
  readonly maxWaitMs: number;
  readonly maxConcurrentRequests: number;
  readonly maxWebSockets: number;
  readonly maxRequestBytes: number;
  /** Of all requests together; 0 is a part of the memory that the process may have. */
  readonly maxBodyMemoryBytes: number;
  readonly maxAnswerBytes: number;
}
