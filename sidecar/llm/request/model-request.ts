/** Describes a model request: one request of the agent, read, with all that later steps need of it. */
import type { Print } from '../../journal/record/body-print.ts';
import type { RequestBudget } from '../../policy/request-budget.ts';
import type { EarlierTries } from '../caller/client-retries.ts';
import type { Asked } from '../kinds/asked.ts';
import type { ServiceCaller, Visit } from '../service/service-caller.ts';
import type { Body } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { OwnerCall } from '../shared/owner-call.ts';
import type { LlmRequestInfo } from '../shared/request-observer.ts';
import type { RequestFacts } from './request-facts.ts';
import type { Spending } from './spending.ts';

export interface ModelRequest {
  readonly method: string;
  /** The API, and the place below its base. */
  readonly asked: Asked;
  /** The path after the base URL, with its query: `/chat/completions?x=1`. */
  readonly path: string;
  readonly headers: HttpHeaders;
  readonly body: Body;
  /** The digest of the whole body; undefined unless another request may join this one. */
  readonly bodyDigest: string | undefined;
  /** For the journal; undefined for a request whose answer is not kept. */
  readonly print: Print | undefined;
  /** Returns the key by which the client's own retry is recognised. */
  readonly retryKey: () => string;
  /** Frees the body, because no attempt needs it any more. */
  readonly dropBody: () => void;
  readonly facts: RequestFacts;
  /** When the request arrived, by the sidecar's clock. */
  readonly receivedMs: number;
  /** When its client gives up, less a margin; Infinity when the client does not say. */
  readonly clientAtMs: number;
  /** The client's earlier retries; undefined for a client that does not count them. */
  readonly retryCount: number | undefined;
  /** What the earlier tries have used. */
  readonly earlier: EarlierTries;
  /** The caller by which limits are shared: the task, the trace, or the connection. */
  readonly caller: string;
  /** The caller of the service; undefined beside an agent. */
  readonly client: ServiceCaller | undefined;
  /** What it has taken of its caller's limits. */
  readonly visit: Visit | undefined;
  /** The inbound call that the request is for. */
  readonly ownerCall: OwnerCall | undefined;
  readonly taskId: string;
  /** The most that the request may use; `NO_SPENDING` without a budget. */
  readonly spending: Spending;
  readonly budget: RequestBudget | undefined;
}

/** Returns what observers receive about a request. */
export function infoOf({ facts, method, path, headers, taskId, client }: ModelRequest): LlmRequestInfo {
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
    client: client?.name ?? '',
  };
}
