/** Settles what a request has taken, once it is over: the limits of a minute, the owner call, statistics and observers. */
import { type LlmOutcome, NO_UPSTREAM } from '../telemetry/llm-stats.ts';
import type { ExchangeAttempts } from './exchange-attempts.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { notifyOwner } from './provider/notify-owner.ts';
import type { ModelRequest } from './request/model-request.ts';
import type { LlmRequestInfo, LlmRequestObserver } from './shared/request-observer.ts';

export interface EndedExchange {
  readonly request: ModelRequest;
  readonly info: LlmRequestInfo;
  readonly observer: LlmRequestObserver | undefined;
  readonly outcome: LlmOutcome;
  /** As in `LlmRecord`. */
  readonly reason: string;
  /** The status that the caller received; 0 when it left before. */
  readonly status: number;
  /** The message of a refusal; '' without one. */
  readonly refusal: string;
  readonly attempts: ExchangeAttempts;
}

export function settleExchange({ clientRetries, clock, stats }: EgressContext, ended: EndedExchange): void {
  const { request, outcome, reason } = ended;
  const { held, ledger, count, choice } = ended.attempts;
  const { facts, retryCount } = request;
  request.ownerCall?.spend?.(ledger.usedTokens);
  request.visit?.settle(ledger.usedTokens);
  stats.tasks.add(request.taskId, ledger.nanos ?? 0);
  notifyOwner(request, outcome, {
    reason,
    refusal: ended.refusal,
    upstream: held?.upstream,
    model: held?.model.model ?? facts.model,
    last: ledger.last,
  });
  // The client may send the request again by itself.
  if (outcome !== 'success' && retryCount !== undefined)
    clientRetries.remember(request.retryKey(), retryCount, choice.triesWith(count), clock());
  request.dropBody();
  const durationMs = clock() - request.receivedMs;
  const pair = held?.pair ?? stats.of(NO_UPSTREAM, facts.model);
  stats.ended(pair, held?.model.model ?? facts.model, outcome, durationMs / 1000);
  ended.observer?.onEnd({
    ...ledger.record(),
    info: ended.info,
    outcome,
    reason,
    status: ended.status,
    upstream: held?.upstream.name ?? NO_UPSTREAM,
    attempts: count,
    isReplayed: false,
    durationMs,
  });
}
