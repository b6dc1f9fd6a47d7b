/** What the requests of the egress share. `settings` and `upstreams` are replaced on a reload: a request reads them once. */
import type { TimerWheel } from '../clock/timer-wheel.ts';
import type { TokenSource } from '../policy/token-budget.ts';
import type { LlmStats } from '../telemetry/llm-stats.ts';
import type { Body } from './body.ts';
import type { ClientRetries, EarlierTries } from './client-retries.ts';
import type { InboundCall, InboundCalls } from './inbound-link.ts';
import type { MinuteGate } from './minute-gate.ts';
import type { LlmEvents, LlmObserver, LlmRequestInfo } from './observer.ts';
import type { RequestHeaders } from './relay-request.ts';
import type { RequestFacts } from './request-facts.ts';
import type { LlmSettings } from './settings.ts';
import type { Spending } from './spending.ts';
import type { Upstream } from './upstream.ts';

export interface EgressEnvironment {
  readonly wheel: TimerWheel;
  /** Milliseconds that never go back. */
  readonly clock: () => number;
  readonly random: () => number;
  /** The environment variables, for keys. */
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly stats: LlmStats;
  readonly events: LlmEvents;
  readonly inboundCalls: InboundCalls | undefined;
  /** Gets bodies, if the configuration asks for them. */
  readonly logBody: (direction: 'request' | 'answer', body: string) => void;
}

export interface EgressContext extends EgressEnvironment {
  settings: LlmSettings;
  upstreams: readonly Upstream[];
  readonly gate: MinuteGate;
  readonly clientRetries: ClientRetries;
  observer: LlmObserver | undefined;
}

/** A request that has been read. */
export interface LlmRequest {
  readonly method: string;
  /** After the base URL, with its query: `/chat/completions?x=1`. */
  readonly path: string;
  readonly headers: RequestHeaders;
  readonly body: Body;
  /** Of the whole body; undefined unless it may be joined by another request. */
  readonly bodyDigest: string | undefined;
  /** By what the client's own retry of it is recognised. */
  readonly retryKey: () => string;
  /** No attempt needs the body any more. */
  readonly dropBody: () => void;
  readonly facts: RequestFacts;
  /** By the sidecar's clock. */
  readonly receivedMs: number;
  /** When its client gives up, by its own words and less a margin; Infinity when it does not say. */
  readonly clientAtMs: number;
  /** Retries of the client's before this one; undefined for a client that does not count them. */
  readonly retryCount: number | undefined;
  /** What those have used. */
  readonly earlier: EarlierTries;
  /** Who is asked to be fair to: the task, the trace, or the connection. */
  readonly caller: string;
  /** The call it is made for. */
  readonly inbound: InboundCall | undefined;
  readonly taskId: string;
  /** The most that it may use; of nothing where no budget holds. */
  readonly spending: Spending;
  readonly budget: TokenSource | undefined;
}

/** What observers are told of it. */
export function infoOf({ facts, method, path, headers, taskId }: LlmRequest): LlmRequestInfo {
  const { operation, model, stream, maxOutputTokens, temperature } = facts;
  return {
    operation,
    method,
    path: path.split('?', 1)[0]!,
    model,
    stream,
    maxOutputTokens,
    temperature,
    headers,
    taskId,
  };
}
