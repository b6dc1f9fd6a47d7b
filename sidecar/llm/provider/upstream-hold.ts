/**
 * Holds what one attempt takes of its upstream until the attempt ends: a place in the breaker, in the learned limits and in
 * the records.
 */
import type { Reserved } from '../../policy/request-budget.ts';
import type { Outcome } from '../../policy/verdicts.ts';
import type { LlmPairStats } from '../../telemetry/llm-stats.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { LlmRetrySettings } from '../shared/llm-settings.ts';
import type { ProviderFailure } from '../shared/provider-failure.ts';
import type { AttemptCost } from './attempt-cost.ts';
import { kindOfEnd, reasonOf, verdictOnUpstream } from './attempt-verdict.ts';
import type { ModelState } from './model-state.ts';
import { describeAttempt } from './notify-owner.ts';
import type { ProviderAttemptEnd } from './provider-attempt-owner.ts';
import type { ProviderRecord } from './provider-record.ts';
import { isRetryable, restMs } from './provider-retry.ts';
import { NOTHING_SPENT, type Spent, spentBefore } from './spent-before.ts';
import type { Target } from './target.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamAdmission } from './upstream-breaker.ts';

/** What the attempt has taken of its request's budget, and its price. */
interface HeldAccount {
  readonly reserved: Reserved | undefined;
  readonly cost: AttemptCost;
}

export class UpstreamHold {
  readonly target: Target;
  readonly upstream: Upstream;
  readonly model: ModelState;
  readonly admission: UpstreamAdmission;
  readonly account: HeldAccount;
  readonly pair: LlmPairStats;
  readonly startedMs: number;
  /** What a service has used before its answer. */
  before: Spent = NOTHING_SPENT;
  private readonly record: ProviderRecord;
  private readonly tokens: number;
  private learned = false;
  private judged = false;
  private hasRested = false;

  /** @param tokens the most that the request takes of the provider's limits */
  constructor(
    target: Target,
    model: ModelState,
    admission: UpstreamAdmission,
    account: HeldAccount,
    pair: LlmPairStats,
    tokens: number,
    nowMs: number,
  ) {
    const { upstream } = target;
    this.target = target;
    this.upstream = upstream;
    this.model = model;
    this.admission = admission;
    this.account = account;
    this.pair = pair;
    this.tokens = tokens;
    this.startedMs = nowMs;
    this.record = upstream.records.of(model.model);
    this.record.begin(this);
    model.learned.begin(tokens);
    model.inUse++;
    upstream.activeRequests++;
  }

  /** The head of the answer shows what is left of the provider's limits. */
  onHeaders(status: number, headers: HttpHeaders, nowMs: number): void {
    this.endLearning();
    if (this.upstream.settings.isService) this.before = spentBefore(headers);
    this.model.learned.learn(this.upstream.kind.quotas, headers, nowMs, Date.now());
    if (status >= 400 && status !== 429) this.model.throttledInARow = 0;
  }

  /** Ends the wait for what is left of the provider's limits. */
  private endLearning(): void {
    if (this.learned) return;
    this.learned = true;
    this.model.learned.end(this.tokens);
  }

  /** The bytes so far are an answer, and no error. */
  onAnswer(nowMs: number): void {
    this.record.answered(this, nowMs);
    this.model.throttledInARow = 0;
    this.model.outOfCredit = undefined;
    // A stream may take minutes: a probe with an answer has shown enough, and other attempts wait for its place.
    if (this.admission.probe) this.judge('success');
  }

  /** Settles the breaker; only the first verdict counts. */
  judge(verdict: Outcome): void {
    if (this.judged) return;
    this.judged = true;
    this.upstream.breaker.settle(this.admission, verdict);
  }

  /** Applies, once, what a failed answer says about the model's next requests. @param random in [0, 1) */
  rest(failure: ProviderFailure, retry: LlmRetrySettings, random: number, nowMs: number): void {
    if (this.hasRested) return;
    this.hasRested = true;
    const { upstream, model } = this;
    const { outOfCredit, status } = failure;
    if (outOfCredit !== undefined) {
      upstream.refuseForMoney(model, outOfCredit, nowMs);
      return;
    }
    if (!isRetryable(failure, retry)) return;
    if (status === 429) model.throttledInARow++;
    const forMs = restMs(failure, retry, model.throttledInARow, random);
    if (forMs > 0) upstream.rest(model, forMs, String(status), nowMs);
  }

  /** The attempt is over. Call it once. */
  end(request: ModelRequest, end: ProviderAttemptEnd, cancelled: boolean, nowMs: number): void {
    const { upstream } = this;
    this.endLearning();
    this.model.inUse--;
    upstream.activeRequests--;
    this.judge(verdictOnUpstream(end, cancelled));
    const error = cancelled ? '' : describeAttempt(request, upstream, end);
    this.record.ended(this, kindOfEnd(end, cancelled, this.model.model), reasonOf(end), error, nowMs);
    if (!cancelled) upstream.lastError = error;
  }
}
