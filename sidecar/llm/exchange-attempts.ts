/**
 * Makes the provider attempts of one exchange, one after the other, and says after each what follows it:
 *
 *     begin ──▶ attempt ──▶ its answer was passed on, or broke off ─────────────▶ finished
 *                  │
 *                  ├── failed before its first byte, and may be tried again ────▶ again
 *                  ├── refused for a field of ours, or lost an idle connection ─▶ again, as the same attempt
 *                  └── failed, and nothing is left to try ──────────────────────▶ gave_up
 */

import type { Most, RequestBudget } from '../policy/request-budget.ts';
import { SMALL_CLAIM_BYTES } from '../policy/shared-memory.ts';
import type { KeylessSink } from './caller/keyless-sink.ts';
import { traitsOf } from './kinds/operations.ts';
import type { MinuteGate } from './limits/minute-gate.ts';
import { Additions } from './provider/added-fields.ts';
import type { Belonging } from './provider/affinity.ts';
import { AttemptCost } from './provider/attempt-cost.ts';
import { attemptOptions } from './provider/attempt-options.ts';
import { statusOfEnd } from './provider/attempt-verdict.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { fallbackReason } from './provider/fallback-reason.ts';
import { outputBound, outputReserve } from './provider/output-tokens.ts';
import { ProviderAttempt } from './provider/provider-attempt.ts';
import type { ProviderAttemptEnd, ProviderAttemptOwner } from './provider/provider-attempt-owner.ts';
import { isRetryable, type NextStep } from './provider/provider-retry.ts';
import type { Chain } from './provider/routes.ts';
import { tellSpent } from './provider/spent-before.ts';
import { TokenLedger } from './provider/token-ledger.ts';
import { UpstreamChoice } from './provider/upstream-choice.ts';
import { UpstreamHold } from './provider/upstream-hold.ts';
import { answerHeaders, attemptInfo, upstreamRequest } from './provider/upstream-request.ts';
import type { ModelRequest } from './request/model-request.ts';
import type { HttpHeaders } from './shared/headers.ts';
import type { ProviderFailure } from './shared/provider-failure.ts';
import type { LlmRequestObserver } from './shared/request-observer.ts';

/**
 * What follows an answer that is an error, decided once its body is here. `again`: another attempt. `without_field`: the
 * provider refused a field that we had added, so the same attempt goes out without it.
 */
type AfterError = 'undecided' | 'again' | 'without_field';

export type AfterAttempt = 'finished' | 'again' | 'gave_up';

/**
 * `breaker_open`: the upstream's breaker admits no attempt now. `no_budget`: a budget of the request has too little left.
 * `no_price`: its money is limited, and the model has no price.
 */
export type Beginning = 'begun' | 'breaker_open' | 'no_budget' | 'no_price';

/** Receives what becomes of the attempts. */
export interface AttemptsOwner {
  /** The caller receives an answer with this status: no other attempt follows. */
  onCommit(status: number): void;
  onAttemptEnd(end: ProviderAttemptEnd, after: AfterAttempt): void;
}

export class ExchangeAttempts implements ProviderAttemptOwner {
  readonly choice: UpstreamChoice;
  readonly ledger: TokenLedger;
  /** The most tokens that the request may use, for the limits of a minute. */
  readonly minuteTokens: number;
  count = 0;
  /** What the last attempt that did not begin would have needed of the budget. */
  needed: Most = { tokens: 0, nanos: 0 };
  /** The place without a price at which no attempt could begin. */
  unpriced = '';
  /** Undefined while none runs. */
  running: ProviderAttempt | undefined = undefined;
  /** What the running or the last attempt takes of its upstream. */
  held: UpstreamHold | undefined = undefined;
  lastFailure: ProviderFailure | undefined = undefined;
  private readonly context: EgressContext;
  private readonly chain: Chain;
  /** By which the place of a success is remembered. */
  private readonly placeKey: string | undefined;
  private readonly settings: EgressContext['settings'];
  private readonly request: ModelRequest;
  private readonly sink: KeylessSink;
  private readonly observer: LlmRequestObserver | undefined;
  private readonly owner: AttemptsOwner;
  private readonly additions: Additions;
  private afterError: AfterError = 'undecided';
  /** A kept connection was lost to the end of its idling once; the next such loss counts as an attempt. */
  private staleTried = false;

  constructor(
    context: EgressContext,
    { chain, key }: Belonging,
    request: ModelRequest,
    sink: KeylessSink,
    observer: LlmRequestObserver | undefined,
    owner: AttemptsOwner,
  ) {
    const { settings } = context;
    const { facts } = request;
    this.context = context;
    this.chain = chain;
    this.placeKey = key;
    this.settings = settings;
    this.request = request;
    this.sink = sink;
    this.observer = observer;
    this.owner = owner;
    this.minuteTokens = facts.estimatedInputTokens + outputReserve(facts, settings.limits);
    this.additions = new Additions(request, settings);
    this.choice = new UpstreamChoice(
      chain.targets,
      request,
      settings,
      this.minuteTokens,
      ({ upstream }) => context.places.upstream(upstream.name)?.isFull(this.minuteTokens) === true,
    );
    this.ledger = new TokenLedger(facts);
  }

  /** Says where the next attempt goes and when, or why none can be made. */
  next(nowMs: number): NextStep {
    return this.choice.next(this.count, nowMs, this.context.random());
  }

  /** The limits of the place with this index; undefined without any. */
  gateOf(index: number): MinuteGate | undefined {
    if (!traitsOf(this.request.facts.operation).isCounted) return undefined;
    return this.context.places.upstream(this.choice.upstreamAt(index).name);
  }

  /** Begins an attempt at the place with this index, within the task's budget. */
  begin(index: number): Beginning {
    const { clock, stats } = this.context;
    const { request } = this;
    const { facts, budget, spending } = request;
    const target = this.choice.try(index);
    const { upstream } = target;
    const admission = upstream.breaker.admit();
    if (admission === undefined) return 'breaker_open';
    const model = target.modelFor(facts);
    const cost = new AttemptCost(this.context.prices, upstream, model, this.context.wallClock());
    const changes = this.additions.changesFor(target, clock(), cost.price);
    const mostOutput = outputBound(facts.operation, spending, changes, this.settings.limits);
    const nanos =
      cost.most(spending.inputTokens, mostOutput) ??
      (upstream.settings.isService ? halfOf(budget) : undefined);
    const isUnpriced = budget?.money !== undefined && nanos === undefined;
    this.needed = { tokens: spending.inputTokens + mostOutput, nanos: nanos ?? 0 };
    const reserved = isUnpriced ? undefined : budget?.reserve(this.needed);
    if (budget !== undefined && reserved === undefined) {
      upstream.breaker.settle(admission, 'neutral');
      this.choice.untry(target);
      if (!isUnpriced) return 'no_budget';
      this.unpriced = `${upstream.name}/${model}`;
      return 'no_price';
    }
    this.count++;
    const pair = stats.of(upstream.name, model);
    this.ledger.begin(pair);
    const state = this.choice.stateOf(target, clock());
    this.held = new UpstreamHold(
      target,
      state,
      admission,
      { reserved, cost },
      pair,
      this.minuteTokens,
      clock(),
    );
    const relayed = upstreamRequest(request, target, changes, {
      tokens: reserved?.tokens?.tokens,
      nanos: reserved?.money?.tokens,
      costOf: (tokens) => cost.most(tokens, 0) ?? 0,
    });
    this.sink.keys = upstream.keys;
    this.observer?.onAttempt(attemptInfo(upstream, this.count, model, relayed.headers));
    const maxOutputEvents = budget === undefined ? Number.POSITIVE_INFINITY : mostOutput;
    const parts = {
      request: relayed,
      sink: this.sink,
      upstream,
      stripUsage: changes.askUsage,
      maxOutputEvents,
    };
    this.running = new ProviderAttempt(
      attemptOptions(this.context, request, this.choice.clocks, parts),
      this,
    );
    return 'begun';
  }

  /** Closes the running attempt at once, because its caller or its time is gone. */
  abort(): void {
    if (this.running !== undefined) this.settle(this.running.abort(), true);
  }

  /** Ends the running attempt as a success when the caller has all that it waits for. False otherwise. */
  endIfWhole(): boolean {
    const whole = this.running?.whole;
    if (whole === undefined) return false;
    this.running!.abort();
    this.sink.end();
    this.onEnd(whole);
    return true;
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
    if (this.additions.wereRefused(held.target, failure.status, body, nowMs)) {
      this.afterError = 'without_field';
      return false;
    }
    held.rest(failure, this.settings.retry, random(), nowMs);
    if (!this.mayTryAgain(failure) && !this.leadsOn(failure, body)) return true;
    this.afterError = 'again';
    return false;
  }

  private mayTryAgain(failure: ProviderFailure): boolean {
    if (this.count >= this.choice.maxAttempts || !isRetryable(failure, this.settings.retry)) return false;
    return this.next(this.context.clock()).go;
  }

  /** Whether the chain leads on after such an answer, and has a place that the request has not been to. */
  private leadsOn(failure: ProviderFailure, body: Buffer): boolean {
    const { fallsBackOn } = this.chain;
    if (fallsBackOn.size === 0 || this.count >= this.choice.maxAttempts) return false;
    const reason = fallbackReason(failure, body, this.request.asked.api);
    if (reason === undefined || !fallsBackOn.has(reason)) return false;
    this.choice.leave(this.held!.target);
    return this.next(this.context.clock()).go;
  }

  headersFor(status: number, headers: HttpHeaders, isEvents: boolean): HttpHeaders {
    const { clientDecides } = this.choice;
    const answered = answerHeaders(
      status,
      headers,
      this.held!.upstream,
      this.request.asked,
      this.count,
      clientDecides,
      isEvents,
    );
    this.tellSpent(answered);
    return answered;
  }

  /** Tells a sidecar that asks for its agent what earlier attempts have used. */
  tellSpent(answer: HttpHeaders): void {
    const { client, headers } = this.request;
    if (client !== undefined) tellSpent(answer, headers, this.ledger.spent);
  }

  onCommit(status: number): void {
    this.owner.onCommit(status);
    // No other attempt follows: a large body is not kept while its answer streams for minutes.
    if (this.request.body.bytes > SMALL_CLAIM_BYTES && this.running?.sent === true) this.request.dropBody();
  }

  onEnd(end: ProviderAttemptEnd): void {
    if (this.running === undefined) return;
    const { afterError } = this;
    this.afterError = 'undecided';
    this.settle(end, false);
    this.owner.onAttemptEnd(end, this.afterEnd(end, afterError));
  }

  private afterEnd(end: ProviderAttemptEnd, afterError: AfterError): AfterAttempt {
    const { failure } = end;
    if (failure === undefined && end.status < 400) this.notePlace(end);
    if (failure === undefined || end.committed) {
      // After a part of an answer, an error leaves nothing to decide; what it says about the model still holds.
      if (failure?.reason === 'status') {
        const { clock, random } = this.context;
        this.held!.rest(failure, this.settings.retry, random(), clock());
      }
      return 'finished';
    }
    this.lastFailure = failure;
    if (afterError === 'without_field' || (end.stale && !this.staleTried)) {
      this.repeat(end.stale);
      return 'again';
    }
    return afterError === 'again' || this.mayTryAgain(failure) ? 'again' : 'gave_up';
  }

  /** The next of its like comes here first, and what names something that is stored here comes here alone. */
  private notePlace({ facts }: ProviderAttemptEnd): void {
    const { affinity, clock, upstreams } = this.context;
    const { target } = this.held!;
    if (this.placeKey !== undefined) affinity.note(this.placeKey, target, clock());
    if (upstreams.length < 2) return;
    if (this.request.facts.operation === 'responses' && facts.id !== undefined)
      affinity.noteStored(facts.id, target.upstream.name, clock());
    for (const id of facts.storedIds) affinity.noteStored(id, target.upstream.name, clock());
  }

  /** The same attempt goes out again: the provider worked on nothing, for it refused our field or had closed the connection. */
  private repeat(isStale: boolean): void {
    const { target } = this.held!;
    if (isStale) {
      this.staleTried = true;
      target.upstream.dropIdleConnections();
    }
    this.choice.untry(target);
    this.count--;
  }

  private settle(end: ProviderAttemptEnd, cancelled: boolean): void {
    const held = this.held!;
    this.running = undefined;
    held.end(this.request, end, cancelled, this.context.clock());
    const { account, before, pair } = held;
    const { budget, client } = this.request;
    this.ledger.settle(end, cancelled, { ...account, before, budget, pair, caller: client?.name ?? '' });
    this.observer?.onAttemptEnd(end.failure, statusOfEnd(end));
  }
}

/** A service knows the price of a name that only it has: it may spend half of what is left, as another agent may. */
function halfOf(budget: RequestBudget | undefined): number | undefined {
  return budget?.money && Math.max(1, Math.floor(budget.money.left / 2));
}
