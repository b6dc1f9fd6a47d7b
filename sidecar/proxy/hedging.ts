/** Runs extra attempts of one call beside a slow one. */
import { Timer } from '../clock/timer-wheel.ts';
import { Status } from '../grpc/status.ts';
import { timeLeftMs } from '../policy/deadline.ts';
import { decideHedge, type HedgeDecision, hedgeAfterFailureMs, hedgeDelayMs } from '../policy/hedge.ts';
import type { HedgeSettings } from '../policy/hedge-settings.ts';
import type { Attempt } from './attempt.ts';
import type { CallWith } from './call-facts.ts';
import { type SettledCall, settleAttempt } from './settlement.ts';

export type HedgedCall = SettledCall &
  CallWith<'request' | 'progress' | 'info' | 'tries'> & {
    /** Receives the attempt that continues, or that answered. */
    readonly tries: { choose(attempt: Attempt): void; goOnWith(attempt: Attempt): void };
    /** Starts an attempt beside the running ones; returns false when no other endpoint is available. */
    hedge(running: readonly Attempt[], nowMs: number): boolean;
  };

/** Decisions against an extra attempt that may change later. */
const MAY_PASS: ReadonlySet<HedgeDecision> = new Set(['budget_exhausted', 'no_endpoint']);

/**
 * The attempts of one call that run beside each other (`policy/hedge.ts`). Only calls that may be hedged have one.
 *
 *     waiting ──delay, or a failure──▶ one more beside the others ──▶ waiting …
 *        └──────── an answer has come, or the call is over ────────▶ stopped, the losers reset
 */
export class Hedging extends Timer {
  private readonly call: HedgedCall;
  private readonly settings: HedgeSettings;
  private readonly delayMs: number;
  /** The running attempts, the newest last; the call's `attempt` is one of them. */
  private readonly running: Attempt[] = [];
  private extra = 0;
  private pushbackMs: number | undefined = undefined;
  private stopped = false;
  private refused = false;

  constructor(call: HedgedCall, settings: HedgeSettings, delayMs: number) {
    super();
    this.call = call;
    this.settings = settings;
    this.delayMs = delayMs;
  }

  /** An attempt started. */
  add(attempt: Attempt, nowMs: number): void {
    this.running.push(attempt);
    if (this.extra < this.settings.maxExtra && !this.stopped) this.armIn(this.delayMs, nowMs);
  }

  private armIn(ms: number, nowMs: number): void {
    if (ms < Number.POSITIVE_INFINITY) this.call.context.wheel.arm(this, nowMs + ms);
    else this.call.context.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    const { call, settings, running } = this;
    // Between two attempts the retry policy decides.
    if (this.stopped || call.tries.retryWait !== undefined) return;
    const cluster = call.cluster;
    const policies = cluster.policies;
    const busy = running.filter(({ endpoint }) => endpoint.usable).length;
    const decision = decideHedge(
      settings,
      {
        extra: this.extra,
        responseStarted: call.progress.isAnswering,
        requestWhole: call.request.whole && call.request.ended,
        timeLeftMs: timeLeftMs(call.clock.deadlineMs, nowMs),
        usualLatencyMs: policies.medianLatencyMs(call.info.method),
        circuitAllows: call.circuit.mayRetry,
        freeEndpoints: cluster.usableCount - busy,
        pushbackMs: this.pushbackMs,
        callsInFlight: cluster.activeCalls,
      },
      policies.budget,
      nowMs,
    );
    if (decision !== 'send') {
      if (decision === 'budget_exhausted' && !this.refused) cluster.count(cluster.hedges, 'budget_exhausted');
      this.refused = true;
      // The obstacle may have disappeared after another delay.
      if (MAY_PASS.has(decision)) this.armIn(this.delayMs, nowMs);
      return;
    }
    this.extra++;
    if (!call.hedge(running, nowMs)) {
      policies.budget.release();
      return;
    }
    cluster.count(cluster.hedges, 'sent');
    call.trace?.event('outrigger.hedge', nowMs);
  }

  /**
   * The attempt failed and was judged. Returns true when others are running: the call continues with them, and the next
   * attempt need not wait for its delay.
   */
  dropped(attempt: Attempt, nowMs: number): boolean {
    this.remove(attempt);
    if (attempt.pushbackMs !== undefined) this.pushbackMs = attempt.pushbackMs;
    const last = this.running.at(-1);
    if (last === undefined) return false;
    const { call } = this;
    call.tries.goOnWith(last);
    if (this.extra < this.settings.maxExtra) this.armIn(hedgeAfterFailureMs(this.pushbackMs), nowMs);
    return true;
  }

  private remove(attempt: Attempt): void {
    const at = this.running.indexOf(attempt);
    if (at >= 0) this.running.splice(at, 1);
  }

  /** The attempt answered: resets the others. */
  choose(attempt: Attempt): void {
    const { call } = this;
    this.remove(attempt);
    // A hedge that fails after all others have failed did not win.
    const won = this.running.length > 0 || !attempt.settled || attempt.status === Status.OK;
    if (attempt.hedge && won && !this.stopped) call.cluster.count(call.cluster.hedges, 'won');
    this.stop();
    for (const loser of this.running) {
      if (loser.ended) continue;
      loser.cancel();
      settleAttempt(call, loser, 'superseded', Status.CANCELLED, 0, undefined);
    }
    this.running.length = 0;
    call.tries.choose(attempt);
  }

  stop(): void {
    this.stopped = true;
    this.call.context.wheel.cancel(this);
  }

  /** All running attempts, for a call that gives up. */
  get attempts(): readonly Attempt[] {
    return this.running;
  }
}

/** Hedges a call whose cluster and method are configured for it. */
export function hedgingOf(call: HedgedCall): Hedging | undefined {
  const policies = call.cluster.policies;
  const { hedge } = policies.settings;
  if (hedge.delayMs === 0 && hedge.percentile === 0) return undefined;
  if (!policies.retry.isIdempotent(call.info.method)) return undefined;
  const latency = { at: (percent: number) => policies.latencyAt(call.info.method, percent) };
  const delayMs = hedgeDelayMs(hedge, latency);
  return delayMs === Number.POSITIVE_INFINITY ? undefined : new Hedging(call, hedge, delayMs);
}
