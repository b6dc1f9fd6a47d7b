/**
 * One request of the agent's, from its place in the line to its last byte; the table of contents of the egress:
 *
 *     wait for the limits of a minute → choose an upstream → reserve of the task's budget → attempt
 *                                          ▲                                                   │
 *                                          └── failed before its first byte, and may be tried ─┘
 */
import { Timer } from '../clock/timer-wheel.ts';
import { deadlineReached } from '../policy/deadline.ts';
import { type LlmOutcome, NO_UPSTREAM } from '../telemetry/llm-stats.ts';
import { KeylessSink } from './caller/keyless-sink.ts';
import { type RefusalExtras, type RefusalReason, refuse, statusOfRefusal } from './caller/refusals.ts';
import type { Sink } from './caller/sink.ts';
import { SMALL_BODY_BYTES } from './limits/body-memory.ts';
import type { Ticket } from './limits/fair-limiter.ts';
import type { Entering } from './limits/minute-gate.ts';
import { Additions } from './provider/added-fields.ts';
import { reasonOf, requestOutcomeOf, statusOfEnd } from './provider/attempt-verdict.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { type NoStep, refusalOf } from './provider/give-up.ts';
import { notifyOwner } from './provider/notify-owner.ts';
import { outputBound, outputReserve } from './provider/output-tokens.ts';
import { ProviderAttempt } from './provider/provider-attempt.ts';
import type { ProviderAttemptEnd, ProviderAttemptOwner } from './provider/provider-attempt-owner.ts';
import { isRetryable, type NextStep } from './provider/provider-retry.ts';
import { TokenLedger } from './provider/token-ledger.ts';
import { UpstreamChoice } from './provider/upstream-choice.ts';
import { UpstreamHold } from './provider/upstream-hold.ts';
import { answerHeaders, attemptInfo, upstreamRequest } from './provider/upstream-request.ts';
import { infoOf, type ModelRequest } from './request/model-request.ts';
import type { HttpHeaders } from './shared/headers.ts';
import type { LlmSettings } from './shared/llm-settings.ts';
import { traitsOf } from './shared/operations.ts';
import type { ProviderFailure } from './shared/provider-failure.ts';
import type { LlmRequestInfo, LlmRequestObserver } from './shared/request-observer.ts';

export class Exchange extends Timer implements ProviderAttemptOwner, Entering {
  readonly request: ModelRequest;
  private readonly context: EgressContext;
  private readonly settings: LlmSettings;
  private readonly sink: KeylessSink;
  private readonly onOver: (exchange: Exchange) => void;
  private readonly choice: UpstreamChoice;
  private readonly additions: Additions;
  /** What the answer may have. */
  private readonly outputReserve: number;
  /** Most that it may use, for the limits of a minute. */
  private readonly minuteTokens: number;
  private readonly info: LlmRequestInfo;
  private readonly observer: LlmRequestObserver | undefined;
  private leaveGate: () => void = () => {};
  private leaveOwner: () => void = () => {};
  private ticket: Ticket | undefined = undefined;
  private attempts = 0;
  private attempt: ProviderAttempt | undefined = undefined;
  private held: UpstreamHold | undefined = undefined;
  /** What is waited for: the upstream of the next attempt. */
  private next = -1;
  /** It was decided when the failure's headers came. */
  private triesAgain = false;
  private staleTried = false;
  private isUntried = false;
  private lastFailure: ProviderFailure | undefined = undefined;
  private readonly ledger: TokenLedger;
  private status = 0;
  /** The message of an answer of our own; '' without one. */
  private refusal = '';
  private over = false;

  constructor(
    context: EgressContext,
    request: ModelRequest,
    sink: Sink,
    onOver: (exchange: Exchange) => void,
  ) {
    super();
    const { settings } = context;
    const { facts } = request;
    this.request = request;
    this.context = context;
    this.settings = settings;
    this.sink = new KeylessSink(sink);
    this.onOver = onOver;
    this.outputReserve = outputReserve(facts, settings.limits);
    this.minuteTokens = facts.estimatedInputTokens + this.outputReserve;
    this.additions = new Additions(request, settings);
    this.choice = new UpstreamChoice(context.upstreams, request, settings, this.minuteTokens);
    this.ledger = new TokenLedger(facts);
    this.info = infoOf(request);
    this.observer = context.observer?.begin(this.info);
  }

  start(): void {
    const { ownerCall, caller, facts } = this.request;
    if (ownerCall !== undefined) this.leaveOwner = ownerCall.onEnd((late) => this.endOfOwner(late));
    if (this.over) return;
    const { gate } = this.context;
    if (!gate.limits || !traitsOf(facts.operation).isCounted) {
      this.goOn();
      return;
    }
    const untilMs = Math.min(this.context.clock() + this.settings.limits.maxWaitMs, this.choice.deadlineMs);
    this.leaveGate = gate.enter(caller, this.minuteTokens, untilMs, this);
  }

  onLetIn(ticket: Ticket): void {
    this.ticket = ticket;
    this.goOn();
  }

  onTurnedAway(againMs: number): void {
    const message = 'the limits of a minute (llm.limits) do not let the request in in time; ask again later';
    this.refuse('rate_limited', message, 'throttled', { retryAfterMs: againMs });
  }

  /** The caller has left, at its deadline or before: the request to the provider is closed at once. */
  cancel(): void {
    const { clientAtMs, receivedMs } = this.request;
    const nowMs = this.context.clock();
    if (this.endsWhole()) return;
    const clientIsLate = this.attempt?.committed !== true && nowMs >= clientAtMs;
    const late = clientIsLate || deadlineReached(nowMs - receivedMs, this.choice.callAtMs - receivedMs);
    this.abort(late ? 'timeout' : 'cancelled', late ? 'deadline' : 'cancelled');
  }

  /** The sidecar ends and the request did not end in time. */
  endForDrain(): void {
    const message = 'the sidecar is shutting down and the request did not end in time; retry';
    this.endEarly('draining', message, 'failed');
  }

  private endOfOwner(late = false): void {
    const message = 'the call that this request was made for has ended';
    this.endEarly(late ? 'deadline' : 'call_ended', message, late ? 'timeout' : 'cancelled');
  }

  private endEarly(reason: RefusalReason, message: string, outcome: LlmOutcome): void {
    if (this.over || this.endsWhole()) return;
    const attempt = this.attempt;
    if (attempt === undefined || !attempt.committed) {
      const clientDecides = reason === 'draining' || attempt?.mayBeRunning === true;
      this.settleAborted();
      this.refuse(reason, message, outcome, { clientDecides });
      return;
    }
    const last = attempt.errorEvent(reason, message);
    this.abort(outcome, reason);
    this.sink.breakOff(last);
  }

  /** All of the answer has come that its caller waits for: some read no further. Whatever ends it now takes nothing away. */
  private endsWhole(): boolean {
    const whole = this.attempt?.whole;
    if (whole === undefined) return false;
    this.attempt!.abort();
    this.sink.end();
    this.onEnd(whole);
    return true;
  }

  private abort(outcome: LlmOutcome, reason: string): void {
    if (this.over) return;
    this.settleAborted();
    this.finish(outcome, reason);
  }

  private settleAborted(): void {
    if (this.attempt !== undefined) this.settle(this.attempt.abort(), true);
  }

  /** Chooses where the next attempt goes, and when. */
  private goOn(): void {
    const nowMs = this.context.clock();
    if (this.choice.isOver(nowMs)) {
      this.giveUp(undefined);
      return;
    }
    const step = this.choose(nowMs);
    if (!step.go) {
      this.giveUp(step);
    } else if (step.atMs > nowMs) {
      this.next = this.choice.awaitTurn(step.candidate);
      this.context.wheel.arm(this, Math.min(step.atMs, this.choice.deadlineMs));
    } else {
      this.begin(step.candidate);
    }
  }

  /** The wait for the next attempt is over. */
  override onTimeout(nowMs: number): void {
    // In the meantime others may have found out more about it.
    if (this.choice.mayBegin(this.next, nowMs)) this.begin(this.next);
    else this.goOn();
  }

  private choose(nowMs: number): NextStep {
    return this.choice.next(this.attempts, nowMs, this.context.random());
  }

  private begin(index: number): void {
    const { clock, wheel, stats } = this.context;
    const { request } = this;
    const { facts, budget, spending } = request;
    const upstream = this.choice.try(index);
    const admission = upstream.breaker.admit();
    if (admission === undefined) {
      this.goOn();
      return;
    }
    const changes = this.additions.changesFor(upstream, clock());
    const mostOutput = outputBound(facts.operation, spending, changes, this.settings.limits);
    const reservation = budget?.reserve(spending.inputTokens + mostOutput);
    if (budget !== undefined && reservation === undefined) {
      upstream.breaker.settle(admission, 'neutral');
      const message = `the task has ${budget.left} tokens left, and the request may use more; ask for fewer tokens`;
      this.refuse('budget_exhausted', message, 'over_budget');
      return;
    }
    this.attempts++;
    const model = upstream.modelFor(facts);
    const pair = stats.of(upstream.name, model);
    this.ledger.begin(pair);
    const state = this.choice.stateOf(upstream, clock());
    this.held = new UpstreamHold(upstream, state, admission, reservation, pair, this.minuteTokens, clock());
    const relayed = upstreamRequest(request, upstream, changes);
    this.sink.keys = upstream.keys;
    this.observer?.onAttempt(attemptInfo(upstream, this.attempts, model, relayed.headers));
    const { limits, retry } = this.settings;
    this.attempt = new ProviderAttempt(
      {
        request: relayed,
        facts,
        sink: this.sink,
        wheel,
        clock,
        ...this.choice.clocks,
        receivedMs: request.receivedMs,
        life: upstream,
        maxAnswerBytes: limits.maxAnswerBytes,
        resend: retry.resend,
        stripUsage: changes.askUsage,
        maxOutputEvents: budget === undefined ? Number.POSITIVE_INFINITY : mostOutput,
        upstream: upstream.name,
      },
      this,
    );
  }

  onHeaders(status: number, headers: HttpHeaders): void {
    this.held!.onHeaders(status, headers, this.context.clock());
  }

  onAnswer(): void {
    this.held!.onAnswer(this.context.clock());
  }

  passesOn(failure: ProviderFailure, body: Buffer): boolean {
    const held = this.held!;
    const { clock, random } = this.context;
    const nowMs = clock();
    this.sink.isError = true;
    this.isUntried = this.additions.wereRefused(held.upstream, failure.status, body, nowMs);
    if (this.isUntried) return false;
    held.rest(failure, this.settings.retry, random(), nowMs);
    this.triesAgain = this.mayTryAgain(failure);
    return !this.triesAgain;
  }

  private mayTryAgain(failure: ProviderFailure): boolean {
    if (this.attempts >= this.choice.maxAttempts || !isRetryable(failure, this.settings.retry)) return false;
    return this.choose(this.context.clock()).go;
  }

  headersFor(status: number, headers: HttpHeaders, isEvents: boolean): HttpHeaders {
    const { clientDecides } = this.choice;
    return answerHeaders(status, headers, this.held!.upstream, this.attempts, clientDecides, isEvents);
  }

  onCommit(status: number): void {
    this.status = status;
    // There is no other attempt: a large body is not kept while its answer streams for minutes.
    if (this.request.body.bytes > SMALL_BODY_BYTES && this.attempt?.sent === true) this.request.dropBody();
  }

  onEnd(end: ProviderAttemptEnd): void {
    this.settle(end, false);
    const { failure } = end;
    if (failure === undefined || end.committed) {
      // An error behind the beginning of an answer leaves nothing to decide, but what it says of the model holds.
      if (failure?.reason === 'status') {
        const { clock, random } = this.context;
        this.held!.rest(failure, this.settings.retry, random(), clock());
      }
      this.finish(requestOutcomeOf(end), reasonOf(end));
      return;
    }
    this.lastFailure = failure;
    if (this.isUntried || (end.stale && !this.staleTried)) {
      // Refused for what we had added, or the provider had closed the connection: nothing was tried yet.
      const { upstream } = this.held!;
      if (end.stale) {
        this.staleTried = true;
        upstream.dropIdleConnections();
      }
      this.isUntried = false;
      this.choice.untry(upstream);
      this.attempts--;
      this.goOn();
    } else if (this.triesAgain || this.mayTryAgain(failure)) {
      this.triesAgain = false;
      this.goOn();
    } else {
      this.giveUp(undefined);
    }
  }

  private settle(end: ProviderAttemptEnd, cancelled: boolean): void {
    const held = this.held!;
    this.attempt = undefined;
    held.end(this.request, end, cancelled, this.context.clock());
    const { reservation, pair } = held;
    this.ledger.settle(end, cancelled, { budget: this.request.budget, reservation, pair });
    this.observer?.onAttemptEnd(end.failure, statusOfEnd(end));
  }

  /** No other attempt: answers with what the last one came to, or why there was none. */
  private giveUp(step: NoStep | undefined): void {
    const refusal = refusalOf(this.lastFailure, this.ledger.last, step, {
      attempts: this.attempts,
      maxAttempts: this.choice.maxAttempts,
      nowMs: this.context.clock(),
      clientDecides: this.choice.clientDecides,
      lastErrors: this.context.upstreams.map(({ lastError }) => lastError),
    });
    this.refuse(refusal.reason, refusal.message, refusal.outcome, refusal);
  }

  private refuse(
    reason: RefusalReason,
    message: string,
    outcome: LlmOutcome,
    more: RefusalExtras = {},
  ): void {
    if (this.over) return;
    const headers: HttpHeaders = { 'outrigger-attempts': String(this.attempts) };
    this.status = statusOfRefusal(reason);
    this.refusal = message;
    refuse(this.sink, reason, message, { ...more, headers });
    this.finish(outcome, reason);
  }

  private finish(outcome: LlmOutcome, reason: string): void {
    if (this.over) return;
    this.over = true;
    const { clientRetries, clock, gate, stats, wheel } = this.context;
    wheel.cancel(this);
    this.choice.endWait();
    this.leaveGate();
    this.leaveOwner();
    this.request.ownerCall?.spend?.(this.ledger.usedTokens);
    notifyOwner(this.request, outcome, {
      reason,
      refusal: this.refusal,
      upstream: this.held?.upstream,
      last: this.ledger.last,
    });
    if (this.ticket !== undefined) {
      if (this.attempts === 0) gate.giveBack(this.ticket);
      else gate.settle(this.ticket, this.ledger.usedTokens);
    }
    const { retryCount } = this.request;
    // The client may come again by itself.
    if (outcome !== 'success' && retryCount !== undefined)
      clientRetries.remember(
        this.request.retryKey(),
        retryCount,
        this.choice.triesWith(this.attempts),
        clock(),
      );
    this.request.dropBody();
    const durationMs = clock() - this.request.receivedMs;
    const pair = this.held?.pair ?? stats.of(NO_UPSTREAM, this.request.facts.model);
    const { facts } = this.request;
    const model = this.held?.upstream.modelFor(facts) ?? facts.model;
    stats.ended(pair, model, outcome, durationMs / 1000);
    this.observer?.onEnd({
      ...this.ledger.record(),
      info: this.info,
      outcome,
      reason,
      status: this.status,
      upstream: this.held?.upstream.name ?? NO_UPSTREAM,
      attempts: this.attempts,
      durationMs,
    });
    this.onOver(this);
  }
}
