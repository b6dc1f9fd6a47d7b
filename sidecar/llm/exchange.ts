/**
 * One request of the agent's, from its place in the line to its last byte; the table of contents of the egress:
 *
 *     wait for the limits of a minute → choose an upstream → reserve of the task's budget → attempt
 *                                          ▲                                                   │
 *                                          └── failed before its first byte, and may be tried ─┘
 */
import { Timer } from '../clock/timer-wheel.ts';
import type { Reservation } from '../policy/token-budget.ts';
import { type LlmOutcome, type LlmPairStats, NO_UPSTREAM } from '../telemetry/llm-stats.ts';
import { Attempt, type AttemptEnd, type AttemptOwner } from './attempt.ts';
import type { Admission } from './breaker.ts';
import type { EgressContext, LlmRequest } from './context.ts';
import type { Ticket } from './fair-limiter.ts';
import { Ledger } from './ledger.ts';
import type { Entering } from './minute-gate.ts';
import type { LlmRequestInfo, LlmRequestObserver } from './observer.ts';
import { type Reason, refuse, statusOf } from './reasons.ts';
import type { RequestHeaders } from './relay.ts';
import { isCounted } from './request-facts.ts';
import { type AttemptFailure, chooseUpstream, cooldownMs, isRetryable, type NextStep } from './retry.ts';
import type { LlmSettings } from './settings.ts';
import { type NoStep, outcomeOf, refusalOf, verdictOf } from './settlement.ts';
import type { Sink } from './sink.ts';
import type { Upstream } from './upstream.ts';
import { answerHeaders, changesFor, outputReserve, upstreamRequest } from './upstream-request.ts';

/** What one attempt holds until it has ended. */
interface Held {
  readonly upstream: Upstream;
  readonly admission: Admission;
  readonly reservation: Reservation | undefined;
  readonly pair: LlmPairStats;
  /** Its answer has told what is left at the provider, or it never will. */
  learned: boolean;
  judged: boolean;
}

export class Exchange extends Timer implements AttemptOwner, Entering {
  readonly request: LlmRequest;
  readonly #context: EgressContext;
  readonly #settings: LlmSettings;
  readonly #upstreams: readonly Upstream[];
  readonly #sink: Sink;
  readonly #onOver: (exchange: Exchange) => void;
  readonly #deadlineMs: number;
  /** What the answer may have. */
  readonly #outputReserve: number;
  /** Most that it may use, for the limits of a minute. */
  readonly #minuteTokens: number;
  readonly #info: LlmRequestInfo;
  readonly #observer: LlmRequestObserver | undefined;
  #leaveGate: () => void = () => {};
  #leaveInbound: () => void = () => {};
  #ticket: Ticket | undefined = undefined;
  readonly #tried = new Set<number>();
  #attempts = 0;
  #attempt: Attempt | undefined = undefined;
  #held: Held | undefined = undefined;
  /** What is waited for: the upstream of the next attempt. */
  #next = -1;
  /** It was decided when the failure's headers came. */
  #triesAgain = false;
  #staleTried = false;
  #lastFailure: AttemptFailure | undefined = undefined;
  readonly #ledger: Ledger;
  #status = 0;
  #over = false;

  constructor(context: EgressContext, request: LlmRequest, sink: Sink, onOver: (exchange: Exchange) => void) {
    super();
    const { settings } = context;
    const { facts, inbound } = request;
    this.request = request;
    this.#context = context;
    this.#settings = settings;
    this.#upstreams = context.upstreams;
    this.#sink = sink;
    this.#onOver = onOver;
    const ownMs =
      settings.timeoutMs === 0 ? Number.POSITIVE_INFINITY : request.receivedMs + settings.timeoutMs;
    this.#deadlineMs = Math.min(ownMs, request.deadlineMs, inbound?.deadlineMs ?? Number.POSITIVE_INFINITY);
    this.#outputReserve = outputReserve(facts, settings.limits);
    this.#minuteTokens = facts.estimatedInputTokens + this.#outputReserve;
    this.#ledger = new Ledger(facts);
    this.#info = {
      operation: facts.operation,
      method: request.method,
      path: request.path.split('?', 1)[0]!,
      model: facts.model,
      stream: facts.stream,
      maxOutputTokens: facts.maxOutputTokens,
      temperature: facts.temperature,
      headers: request.headers,
      taskId: request.taskId,
    };
    this.#observer = context.observer?.begin(this.#info);
  }

  start(): void {
    const { inbound, caller, facts } = this.request;
    if (inbound !== undefined) this.#leaveInbound = inbound.onEnd(() => this.#endOfInbound());
    if (this.#over) return;
    const { gate } = this.#context;
    if (!gate.limits || !isCounted(facts.operation)) {
      this.#goOn();
      return;
    }
    const untilMs = Math.min(this.#context.clock() + this.#settings.limits.maxWaitMs, this.#deadlineMs);
    this.#leaveGate = gate.enter(caller, this.#minuteTokens, untilMs, this);
  }

  onLetIn(ticket: Ticket): void {
    this.#ticket = ticket;
    this.#goOn();
  }

  onTurnedAway(againMs: number): void {
    const message = 'the limits of a minute (llm.limits) do not let the request in in time; ask again later';
    this.#refuse('rate_limited', message, 'throttled', againMs);
  }

  /** The caller has left: the request to the provider is closed at once. */
  cancel(): void {
    this.#abort('cancelled', 'cancelled');
  }

  /** The sidecar ends and the request did not end in time. */
  endForDrain(): void {
    const message = 'the sidecar is shutting down and the request did not end in time; retry';
    this.#endEarly('draining', message, 'failed');
  }

  #endOfInbound(): void {
    this.#endEarly('call_ended', 'the call that this request was made for has ended', 'cancelled');
  }

  #endEarly(reason: Reason, message: string, outcome: LlmOutcome): void {
    if (this.#over) return;
    const attempt = this.#attempt;
    if (attempt === undefined || !attempt.committed) {
      this.#settleAborted();
      this.#refuse(reason, message, outcome);
      return;
    }
    const last = attempt.errorEvent(reason, message);
    this.#abort(outcome, reason);
    this.#sink.breakOff(last);
  }

  #abort(outcome: LlmOutcome, reason: string): void {
    if (this.#over) return;
    this.#settleAborted();
    this.#finish(outcome, reason);
  }

  #settleAborted(): void {
    const attempt = this.#attempt;
    if (attempt !== undefined) this.#settle(attempt.abort(), true);
  }

  /** Chooses where the next attempt goes, and when. */
  #goOn(): void {
    const nowMs = this.#context.clock();
    if (nowMs >= this.#deadlineMs) {
      this.#giveUp(undefined);
      return;
    }
    const step = this.#choose(nowMs);
    if (!step.go) {
      this.#giveUp(step);
    } else if (step.atMs > nowMs) {
      this.#next = step.candidate;
      this.#context.wheel.arm(this, Math.min(step.atMs, this.#deadlineMs));
    } else {
      this.#begin(step.candidate);
    }
  }

  /** The wait for the next attempt is over. */
  override onTimeout(nowMs: number): void {
    const candidate = this.#upstreams[this.#next]!.candidate(this.#minuteTokens, false, nowMs);
    // In the meantime others may have found out more about it.
    if (candidate.closed && candidate.freeAtMs <= nowMs) this.#begin(this.#next);
    else this.#goOn();
  }

  #choose(nowMs: number): NextStep {
    const candidates = this.#upstreams.map((upstream, index) =>
      upstream.candidate(this.#minuteTokens, this.#tried.has(index), nowMs),
    );
    return chooseUpstream(candidates, this.#settings.retry, {
      attempts: this.#attempts,
      nowMs,
      deadlineMs: this.#deadlineMs,
      random: this.#context.random(),
    });
  }

  #begin(index: number): void {
    const { clock, wheel, stats } = this.#context;
    const { request } = this;
    const { facts, budget } = request;
    const upstream = this.#upstreams[index]!;
    const admission = upstream.breaker.admit();
    if (admission === undefined) {
      this.#goOn();
      return;
    }
    const changes = changesFor(request, this.#settings);
    // A maximum that we set holds for each choice.
    const mostOutput = changes.maxOutputTokens * facts.choices || this.#outputReserve;
    const reservation = budget?.reserve(facts.mostInputTokens + mostOutput);
    if (budget !== undefined && isCounted(facts.operation) && reservation === undefined) {
      upstream.breaker.settle(admission, 'neutral');
      const message = `the task has ${budget.left} tokens left, and the request may use more; ask for fewer tokens`;
      this.#refuse('budget_exhausted', message, 'over_budget');
      return;
    }
    this.#attempts++;
    this.#tried.add(index);
    const model = upstream.settings.model ?? facts.model;
    this.#held = {
      upstream,
      admission,
      reservation,
      pair: stats.of(upstream.name, model),
      learned: false,
      judged: false,
    };
    if (this.#attempts > 1) this.#held.pair.retries++;
    upstream.learned.begin(this.#minuteTokens);
    upstream.activeRequests++;
    const relayed = upstreamRequest(request, upstream, changes);
    this.#observer?.onAttempt({
      upstream: upstream.name,
      serverAddress: upstream.hostname,
      serverPort: upstream.port,
      attempt: this.#attempts,
      model,
      headers: relayed.headers,
    });
    const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs, limits } = this.#settings;
    this.#attempt = new Attempt(
      {
        request: relayed,
        facts,
        sink: this.#sink,
        wheel,
        clock,
        connectTimeoutMs,
        firstByteTimeoutMs,
        idleTimeoutMs,
        deadlineMs: this.#deadlineMs,
        maxAnswerBytes: limits.maxAnswerBytes,
        stripUsage: changes.askUsage,
        maxOutputEvents: budget === undefined ? Number.POSITIVE_INFINITY : mostOutput,
        upstream: upstream.name,
      },
      this,
    );
  }

  onHeaders(status: number, headers: RequestHeaders): void {
    const { clock } = this.#context;
    const { upstream } = this.#held!;
    this.#learned(this.#held!);
    upstream.learned.learn(headers, clock(), Date.now());
    if (status !== 429) upstream.throttledInARow = 0;
  }

  #learned(held: Held): void {
    if (held.learned) return;
    held.learned = true;
    held.upstream.learned.end(this.#minuteTokens);
  }

  passesOn(failure: AttemptFailure): boolean {
    this.#coolDown(failure);
    this.#triesAgain = this.#mayTryAgain(failure);
    return !this.#triesAgain;
  }

  #coolDown(failure: AttemptFailure): void {
    const { upstream } = this.#held!;
    const { clock, random } = this.#context;
    const throttled = failure.status === 429;
    // A 503 may ask for a pause as well; only what it asks for is kept.
    if (!throttled && (failure.status !== 503 || failure.retryAfterMs === undefined)) return;
    if (throttled) upstream.throttledInARow++;
    const forMs = cooldownMs(failure, this.#settings.retry, upstream.throttledInARow, random());
    upstream.coolDown(forMs, clock());
  }

  #mayTryAgain(failure: AttemptFailure): boolean {
    const { retry } = this.#settings;
    if (this.#attempts >= retry.maxAttempts || !isRetryable(failure, retry)) return false;
    // Longer than the cap is not waited for at this upstream, though its cooldown is capped.
    const onlyOne = this.#upstreams.length === 1;
    if (onlyOne && (failure.retryAfterMs ?? 0) > retry.maxRetryAfterMs) return false;
    return this.#choose(this.#context.clock()).go;
  }

  headersFor(status: number, headers: RequestHeaders): RequestHeaders {
    return answerHeaders(status, headers, this.#held!.upstream.name, this.#attempts);
  }

  onCommit(status: number): void {
    const held = this.#held!;
    this.#status = status;
    // A stream may go on for minutes: a probe that answers has shown enough, and others wait for its place.
    if (!held.admission.probe || status >= 400) return;
    held.judged = true;
    held.upstream.breaker.settle(held.admission, 'success');
  }

  onEnd(end: AttemptEnd): void {
    this.#settle(end, false);
    const { failure } = end;
    if (failure === undefined || end.committed) {
      this.#finish(outcomeOf(end), failure?.reason ?? (end.status >= 400 ? String(end.status) : ''));
      return;
    }
    this.#lastFailure = failure;
    if (end.stale && !this.#staleTried) {
      // The provider had closed the connection: nothing was tried yet.
      this.#staleTried = true;
      this.#attempts--;
      this.#tried.clear();
      this.#goOn();
    } else if (this.#triesAgain || this.#mayTryAgain(failure)) {
      this.#triesAgain = false;
      this.#goOn();
    } else {
      this.#giveUp(undefined);
    }
  }

  #settle(end: AttemptEnd, cancelled: boolean): void {
    const held = this.#held!;
    this.#attempt = undefined;
    this.#learned(held);
    held.upstream.activeRequests--;
    if (!held.judged) held.upstream.breaker.settle(held.admission, verdictOf(end, cancelled));
    held.judged = true;
    const { reservation, pair } = held;
    this.#ledger.settle(end, cancelled, { budget: this.request.budget, reservation, pair });
    this.#observer?.onAttemptEnd(end.failure, end.status);
  }

  /** No other attempt: answers with what the last one came to, or why there was none. */
  #giveUp(step: NoStep | undefined): void {
    const refusal = refusalOf(this.#lastFailure, this.#ledger.last, step, {
      attempts: this.#attempts,
      maxAttempts: this.#settings.retry.maxAttempts,
      nowMs: this.#context.clock(),
    });
    this.#refuse(refusal.reason, refusal.message, refusal.outcome, refusal.retryAfterMs);
  }

  #refuse(reason: Reason, message: string, outcome: LlmOutcome, retryAfterMs?: number): void {
    if (this.#over) return;
    const headers: RequestHeaders = { 'outrigger-attempts': String(this.#attempts) };
    this.#status = statusOf(reason);
    refuse(this.#sink, reason, message, { headers, retryAfterMs });
    this.#finish(outcome, reason);
  }

  #finish(outcome: LlmOutcome, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    const { clock, gate, stats, wheel } = this.#context;
    wheel.cancel(this);
    this.#leaveGate();
    this.#leaveInbound();
    this.request.inbound?.spend?.(this.#ledger.usedTokens);
    if (this.#ticket !== undefined) {
      if (this.#attempts === 0) gate.giveBack(this.#ticket);
      else gate.settle(this.#ticket, this.#ledger.usedTokens);
    }
    const durationMs = clock() - this.request.receivedMs;
    const pair = this.#held?.pair ?? stats.of(NO_UPSTREAM, this.request.facts.model);
    pair.countOutcome(outcome);
    pair.duration.record(durationMs / 1000);
    this.#observer?.onEnd({
      ...this.#ledger.record(),
      info: this.#info,
      outcome,
      reason,
      status: this.#status,
      upstream: this.#held?.upstream.name ?? NO_UPSTREAM,
      attempts: this.#attempts,
      durationMs,
    });
    this.#onOver(this);
  }
}
