/** Describes a model request: one request of the agent that has been read, with all that later steps need of it. */
import type { TokenSource } from '../../policy/token-budget.ts';
import type { EarlierTries } from '../caller/client-retries.ts';
import type { Body } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { OwnerCall } from '../shared/owner-call.ts';
import type { LlmRequestInfo } from '../shared/request-observer.ts';
import type { RequestFacts } from './request-facts.ts';
import type { Spending } from './spending.ts';

/** A request that has been read. */
export interface ModelRequest {
  readonly method: string;
  /** After the base URL, with its query: `/chat/completions?x=1`. */
  readonly path: string;
  readonly headers: HttpHeaders;
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
  readonly ownerCall: OwnerCall | undefined;
  readonly taskId: string;
  /** The most that it may use; of nothing where no budget holds. */
  readonly spending: Spending;
  readonly budget: TokenSource | undefined;
}

/** What observers are told of it. */
export function infoOf({ facts, method, path, headers, taskId }: ModelRequest): LlmRequestInfo {
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
