/**
 * Carries one request of the agent from its place in the line to its last byte; the table of contents of the egress:
 *
 *     wait for the limits of a minute → choose an upstream → reserve of the task's budget → attempt
 *                                          ▲                                                   │
 *                                          └── failed before its first byte, and may be tried ─┘
 *
 * `exchange-state.ts` draws its states, `exchange-attempts.ts` makes the attempts, `exchange-end.ts` settles what the
 * request has taken.
 */
import { Timer } from '../clock/timer-wheel.ts';
import { step } from '../errors/illegal-step.ts';
import { deadlineReached } from '../policy/deadline.ts';
import type { LlmOutcome } from '../telemetry/llm-stats.ts';
import { KeylessSink } from './caller/keyless-sink.ts';
import { type RefusalExtras, type RefusalReason, refuse, statusOfRefusal } from './caller/refusals.ts';
import type { Sink } from './caller/sink.ts';
import { type AfterAttempt, type AttemptsOwner, ExchangeAttempts } from './exchange-attempts.ts';
import { settleExchange } from './exchange-end.ts';
import { ExchangeLines } from './exchange-lines.ts';
import { EXCHANGE_ARROWS, type ExchangeState } from './exchange-state.ts';
import { traitsOf } from './kinds/operations.ts';
import type { MinuteGate } from './limits/minute-gate.ts';
import { reasonOf, requestOutcomeOf } from './provider/attempt-verdict.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { type NoStep, refusalOf } from './provider/give-up.ts';
import type { ProviderAttemptEnd } from './provider/provider-attempt-owner.ts';
import type { RouteProblem } from './provider/routes.ts';
import { infoOf, type ModelRequest } from './request/model-request.ts';
import type { HttpHeaders } from './shared/headers.ts';
import type { LlmRequestInfo, LlmRequestObserver } from './shared/request-observer.ts';

/** Other requests may take what was fetched for this one. */
const MAX_FETCHES = 8;
const BUS_AWAY =
  "the bus that shares the budget of a day among replicas can't be reached, and this replica has used what it had; try again later";
const BUS_AGAIN_MS = 5_000;

export class Exchange extends Timer implements AttemptsOwner {
  readonly request: ModelRequest;
  private readonly context: EgressContext;
  private readonly sink: KeylessSink;
  private readonly onOver: (exchange: Exchange, outcome: LlmOutcome) => void;
  private readonly info: LlmRequestInfo;
  private readonly observer: LlmRequestObserver | undefined;
  private readonly attempts: ExchangeAttempts;
  private readonly maxWaitMs: number;
  /** The limits of the egress, and of the rule for its model. */
  private readonly gates: readonly MinuteGate[];
  private readonly lines: ExchangeLines;
  /** Why the request may go nowhere; undefined where it may. */
  private readonly problem: RouteProblem | undefined;
  private state: ExchangeState = 'created';
  private leaveOwner: () => void = () => {};
  /** Why the line of an upstream did not let it in; undefined while none has turned it away. */
  private turnedAway: { readonly upstream: string; readonly againMs: number } | undefined = undefined;
  private attemptTokens = 0;
  /** The upstream whose turn the exchange waits for. */
  private awaited = -1;
  private fetches = 0;
  /** The status that the caller has received; 0 before. */
  private status = 0;
  /** The message of a refusal; '' without one. */
  private refusal = '';

  constructor(
    context: EgressContext,
    request: ModelRequest,
    sink: Sink,
    onOver: (exchange: Exchange, outcome: LlmOutcome) => void,
  ) {
    super();
    this.request = request;
    this.context = context;
    this.sink = new KeylessSink(sink);
    this.onOver = onOver;
    this.maxWaitMs = context.settings.limits.maxWaitMs;
    this.info = infoOf(request);
    this.observer = context.observer?.begin(this.info);
    const { routes, affinity } = context;
    const place = affinity.belongingOf(routes.of(request.asked, request.facts), request, context.clock());
    this.problem = place.chain.problem;
    this.attempts = new ExchangeAttempts(context, place, request, this.sink, this.observer, this);
    this.lines = new ExchangeLines(request.caller, this.attempts.minuteTokens);
    const { gate, places } = context;
    const ofRule = places.rule(place.chain.rule);
    const all = [...(gate.limits ? [gate] : []), ...(ofRule === undefined ? [] : [ofRule])];
    this.gates = traitsOf(request.facts.operation).isCounted ? all : [];
  }

  private become(state: ExchangeState): void {
    this.state = step(EXCHANGE_ARROWS, this.state, state);
  }

  start(): void {
    const { ownerCall } = this.request;
    if (ownerCall !== undefined) this.leaveOwner = ownerCall.onEnd((late) => this.endOfOwner(late));
    if (this.state === 'over') return;
    if (this.problem !== undefined) {
      this.refuse(this.problem.reason, this.problem.message, 'refused');
      return;
    }
    if (this.gates.length > 0) this.become('in_line');
    this.lines.enter(this.gates, this.waitUntilMs, {
      onIn: () => {
        this.become('choosing');
        this.goOn();
      },
      onAway: (retryAfterMs, gate) => {
        const which = gate === this.context.gate ? 'llm.limits' : 'llm.models[].limits';
        const message = `the limits of ours (${which}) do not admit the request in time; try again later`;
        this.refuse('rate_limited', message, 'throttled', { retryAfterMs });
      },
    });
  }

  /** Until when it may wait in a line that it enters now. */
  private get waitUntilMs(): number {
    return Math.min(this.context.clock() + this.maxWaitMs, this.attempts.choice.deadlineMs);
  }

  /** Chooses the upstream and the time of the next attempt. */
  private goOn(): void {
    const { choice } = this.attempts;
    const nowMs = this.context.clock();
    if (choice.isOver(nowMs)) {
      this.giveUp(undefined);
      return;
    }
    const next = this.attempts.next(nowMs);
    if (!next.go) {
      if (this.turnedAway !== undefined && this.attempts.count === 0) this.refuseForUpstream(this.turnedAway);
      else this.giveUp(next);
    } else if (next.atMs > nowMs) {
      this.become('waiting');
      this.awaited = choice.awaitTurn(next.candidate);
      this.context.wheel.arm(this, Math.min(next.atMs, choice.deadlineMs));
    } else {
      this.beginAt(next.candidate);
    }
  }

  /** Begins an attempt when the limits of its upstream let it in; one that they do not let in time goes elsewhere. */
  private beginAt(index: number): void {
    const { choice } = this.attempts;
    const gate = this.attempts.gateOf(index);
    if (gate === undefined) {
      this.begin(index);
      return;
    }
    if (gate.isFull(this.attempts.minuteTokens)) choice.awaitTurn(index);
    this.become('in_line');
    this.lines.enterUpstream(gate, this.waitUntilMs, {
      onIn: () => {
        this.become('choosing');
        // Others may have learned more about the upstream in the meantime.
        if (choice.mayBegin(index, this.context.clock())) this.begin(index);
        else this.goOnElsewhere();
      },
      onAway: (againMs) => {
        choice.endWait();
        this.become('choosing');
        this.turnedAway = { upstream: choice.upstreamAt(index).name, againMs };
        choice.leaveAt(index);
        this.goOn();
      },
    });
  }

  private goOnElsewhere(): void {
    this.lines.endAttempt(undefined);
    this.goOn();
  }

  private refuseForUpstream({ upstream, againMs }: { upstream: string; againMs: number }): void {
    const message = `the limits of the upstream ${upstream} (llm.upstreams[].limits) do not admit the request in time; try again later`;
    this.refuse('rate_limited', message, 'throttled', { retryAfterMs: againMs });
  }

  /** The wait for the next attempt is over. */
  override onTimeout(nowMs: number): void {
    const isFetching = this.state === 'fetching';
    this.become('choosing');
    if (isFetching) {
      this.goOn();
      return;
    }
    // Other requests may have learned more about the upstream in the meantime.
    if (this.attempts.choice.mayBegin(this.awaited, nowMs)) this.beginAt(this.awaited);
    else this.goOn();
  }

  private begin(index: number): void {
    const beginning = this.attempts.begin(index);
    switch (beginning) {
      case 'begun':
        this.become('attempting');
        return;
      case 'breaker_open':
        this.goOnElsewhere();
        return;
      case 'no_budget':
        this.lines.endAttempt(undefined);
        this.fetchBudget();
        return;
      case 'no_price':
        this.lines.endAttempt(undefined);
        this.refuseForPrice();
        return;
      default:
        beginning satisfies never;
    }
  }

  /** Gets more of a budget that replicas share, or refuses. */
  private fetchBudget(): void {
    const { budget } = this.request;
    const needed = this.attempts.needed;
    const fetching = this.fetches++ < MAX_FETCHES ? budget?.fetch?.(needed) : undefined;
    if (fetching === undefined) {
      this.refuseForBudget();
      return;
    }
    this.become('fetching');
    const { deadlineMs } = this.attempts.choice;
    if (Number.isFinite(deadlineMs)) this.context.wheel.arm(this, deadlineMs);
    void fetching.then((fetched) => {
      if (this.state !== 'fetching') return;
      this.context.wheel.cancel(this);
      this.become('choosing');
      if (fetched === 'more') this.goOn();
      else if (fetched === 'none') this.refuseForBudget();
      else
        this.refuse('limits_unavailable', BUS_AWAY, 'over_budget', {
          retryAfterMs: BUS_AGAIN_MS,
          clientDecides: true,
        });
    });
  }

  /** Other places may have a price, but a budget must not lead to another model than the operator's first choice. */
  private refuseForPrice(): void {
    const message = `the money of the request is limited, and ${this.attempts.unpriced} has no price; add one to llm.prices_file`;
    this.refuse('no_price', message, 'over_budget');
  }

  private refuseForBudget(): void {
    const shortage = this.request.budget?.shortage(this.attempts.needed);
    this.refuse('budget_exhausted', shortage?.message ?? '', 'over_budget', {
      retryAfterMs: shortage?.againMs,
    });
  }

  onCommit(status: number): void {
    this.status = status;
  }

  onAttemptEnd(end: ProviderAttemptEnd, after: AfterAttempt): void {
    this.become('choosing');
    const used = this.attempts.ledger.usedTokens;
    this.lines.endAttempt(used - this.attemptTokens);
    this.attemptTokens = used;
    switch (after) {
      case 'finished':
        this.finish(requestOutcomeOf(end), reasonOf(end));
        return;
      case 'again':
        this.goOn();
        return;
      case 'gave_up':
        this.giveUp(undefined);
        return;
      default:
        after satisfies never;
    }
  }

  /** The caller has left, at its deadline or before: closes the request to the provider at once. */
  cancel(): void {
    const { clientAtMs, receivedMs } = this.request;
    const nowMs = this.context.clock();
    if (this.attempts.endIfWhole()) return;
    const clientIsLate = this.attempts.running?.committed !== true && nowMs >= clientAtMs;
    const { callAtMs } = this.attempts.choice;
    const late = clientIsLate || deadlineReached(nowMs - receivedMs, callAtMs - receivedMs);
    this.abort(late ? 'timeout' : 'cancelled', late ? 'deadline' : 'cancelled');
  }

  /** The time to drain is over. */
  endForDrain(): void {
    const message = 'the sidecar is shutting down and the request did not end in time; retry';
    this.endEarly('draining', message, 'failed');
  }

  private endOfOwner(late = false): void {
    const message = 'the inbound call that this request was made for has ended; make no more requests for it';
    this.endEarly(late ? 'deadline' : 'call_ended', message, late ? 'timeout' : 'cancelled');
  }

  /** Refuses, or breaks off what the caller has already begun to receive. */
  private endEarly(reason: RefusalReason, message: string, outcome: LlmOutcome): void {
    if (this.state === 'over' || this.attempts.endIfWhole()) return;
    const { running } = this.attempts;
    if (running === undefined || !running.committed) {
      const clientDecides = reason === 'draining' || running?.mayBeRunning === true;
      this.endAttempt();
      this.refuse(reason, message, outcome, { clientDecides });
      return;
    }
    const last = running.errorEvent(reason, message);
    this.abort(outcome, reason);
    this.sink.breakOff(last);
  }

  private abort(outcome: LlmOutcome, reason: string): void {
    if (this.state === 'over') return;
    this.endAttempt();
    this.finish(outcome, reason);
  }

  private endAttempt(): void {
    if (this.state !== 'attempting') return;
    this.attempts.abort();
    this.become('choosing');
  }

  /** No other attempt follows: refuses with the failure of the last one, or with the reason why there was none. */
  private giveUp(next: NoStep | undefined): void {
    const { lastFailure, ledger, count, choice } = this.attempts;
    const refusal = refusalOf(lastFailure, ledger.last, next, {
      attempts: count,
      maxAttempts: choice.maxAttempts,
      nowMs: this.context.clock(),
      clientDecides: choice.clientDecides,
      lastErrors: choice.lastErrors,
    });
    this.refuse(refusal.reason, refusal.message, refusal.outcome, refusal);
  }

  private refuse(
    reason: RefusalReason,
    message: string,
    outcome: LlmOutcome,
    more: RefusalExtras = {},
  ): void {
    if (this.state === 'over') return;
    const headers: HttpHeaders = { 'outrigger-attempts': String(this.attempts.count) };
    this.attempts.tellSpent(headers);
    this.status = statusOfRefusal(reason);
    this.refusal = message;
    refuse(this.sink, reason, message, { ...more, headers, api: this.request.asked.api });
    this.finish(outcome, reason);
  }

  private finish(outcome: LlmOutcome, reason: string): void {
    if (this.state === 'over') return;
    this.become('over');
    this.context.wheel.cancel(this);
    this.attempts.choice.endWait();
    this.leaveOwner();
    const { request, info, observer, attempts, status, refusal } = this;
    const { usedTokens } = attempts.ledger;
    const isSent = attempts.count > 0;
    this.lines.endAttempt(isSent ? usedTokens - this.attemptTokens : undefined);
    this.lines.end(isSent ? usedTokens : undefined);
    settleExchange(this.context, {
      request,
      info,
      observer,
      attempts,
      status,
      refusal,
      outcome,
      reason,
    });
    this.onOver(this, outcome);
  }
}
