/**
 * The circuit of one cluster and method: it stops calls that would fail anyway, so that callers know at once and the
 * endpoints get time to recover.
 *
 *                    failures in a row (several endpoints, or the only one),
 *                    or their share in the window is too high
 *          ┌────────┐ ────────────────────────────────────────────────▶ ┌────────┐
 *          │ closed │                                                   │  open  │ rejects all
 *          └────────┘                                                   └────────┘
 *              ▲                                                          │    ▲
 *              │ half_open_max                  recovery_timeout is over, │    │ a probe fails, or its
 *              │ successes                     repeats wait longer: ×2,   │    │ stream is cut
 *              │                               at most 5 min, ±20 %;      │    │
 *              │                               sooner when no endpoint    │    │
 *              │                               was reachable and one      │    │
 *              │                               is reachable now           ▼    │
 *              │                                                      ┌───────────┐ half_open_max probes
 *              └──────────────────────────────────────────────────────│ half-open │ at a time, rejects
 *                                                                     └───────────┘ the others
 *                                     a neutral verdict gives the probe's place to the next call
 *
 * New settings that turn both rules off, or ask for no more successes, close an open or a half-open circuit.
 *
 * Every change of state begins a new generation. The circuit drops a verdict on a call of an earlier generation: it
 * describes the time before, and must neither close a circuit that opened since nor open one that closed.
 *
 * The circuit counts calls, not attempts: a call that a retry rescued was no failure of the cluster.
 *
 * The cause of the opening decides what may end it early (`reach.ts`, `circuit-reach.ts`). The latest failure counts:
 * when it shows that no endpoint was reachable, the return of an endpoint ({@link CircuitBreaker.endpointBack}) makes
 * an open circuit half-open at once. When it is an answer, only time does. `early-probing.ts` limits the probes of an
 * endpoint that comes and goes.
 *
 * Pure: the time comes in with each question, in milliseconds that never go back; nothing runs by itself.
 */

import { backoffMs } from '../clock/backoff.ts';
import { step } from '../errors/illegal-step.ts';
import type { CircuitBreakerSettings } from './circuit-breaker-settings.ts';
import { CircuitReach } from './circuit-reach.ts';
import {
  ANY_ENDPOINT,
  CIRCUIT_ARROWS,
  type CircuitAdmission,
  type CircuitCause,
  type CircuitEvidence,
  type CircuitRejection,
  type CircuitState,
  type CircuitTransition,
} from './circuit-state.ts';
import { EarlyProbing } from './early-probing.ts';
import { FailureRun } from './failure-run.ts';
import { LastCrash } from './last-crash.ts';
import { ProbeSlots } from './probe-slots.ts';
import { ShareWindow } from './share-window.ts';
import type { Verdict, VerdictReason } from './verdicts.ts';

const OPEN_MULTIPLIER = 2;
/** As long as the longest ejection: a repaired endpoint is not avoided for longer. */
const MAX_OPEN_MS = 300_000;
/**
 * The pushback while all probes are out, whose verdicts arrive within a usual call, and while no endpoint is reachable,
 * which may end at any time.
 */
const SHORT_RETRY_AFTER_MS = 1_000;
const REMEMBERED_REASONS = 5;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class CircuitBreaker {
  /** The number of usable endpoints. With more than one, a run of failures must come from two; see `FailureRun`. */
  endpoints = 1;
  /** The number of calls rejected so far. */
  rejections = 0;
  private settings: CircuitBreakerSettings;
  private readonly random: () => number;
  private currentState: CircuitState = 'closed';
  private generation = 0;
  private readonly failures = new FailureRun();
  private readonly cuts = new FailureRun();
  private window: ShareWindow;
  private reasons: VerdictReason[] = [];
  private readonly lastCrash = new LastCrash();
  private openCause: CircuitCause | undefined = undefined;
  private openings = 0;
  /** The planned and the real duration of the last opening: the real one is shorter when an endpoint came back. */
  private openForMs = 0;
  private wasOpenMs = 0;
  private openedAtMs = Number.NEGATIVE_INFINITY;
  private readonly reach = new CircuitReach();
  private readonly early: EarlyProbing;
  private changedAtMs = Number.NEGATIVE_INFINITY;
  private lastProbe = 0;
  /** Probes up to this one belong to earlier generations. */
  private lastEarlierProbe = 0;
  private readonly probes = new ProbeSlots();
  private successes = 0;
  /** Created when the circuit opens, and returned for each rejected call. */
  private rejection: Mutable<CircuitRejection> | undefined = undefined;

  /** @param random returns [0, 1), for the jitter */
  constructor(settings: CircuitBreakerSettings, random: () => number) {
    this.settings = settings;
    this.random = random;
    this.early = new EarlyProbing(random);
    this.window = new ShareWindow(settings.windowMs);
  }

  /** The state at the last question; {@link tick} brings it up to date. */
  get state(): CircuitState {
    return this.currentState;
  }

  /** What opened the circuit last; undefined when it never opened. */
  get cause(): CircuitCause | undefined {
    return this.openCause;
  }

  get probesInFlight(): number {
    return this.probes.inFlight;
  }

  /** When an open circuit admits probes; Infinity in other states. For a timer that reports the change in time. */
  get halfOpenAtMs(): number {
    if (this.currentState !== 'open') return Number.POSITIVE_INFINITY;
    return Math.min(this.dueAtMs, this.early.atMs);
  }

  /** When the recovery timeout is over. */
  private get dueAtMs(): number {
    return this.openedAtMs + this.openForMs;
  }

  /** Whether the circuit is open because no endpoint was reachable, so that {@link endpointBack} may end it. */
  awaitsEndpoint(nowMs: number): boolean {
    return this.currentState === 'open' && this.reach.unreachable && nowMs < this.halfOpenAtMs;
  }

  /**
   * Asks whether a call may begin. Each admission must be settled once, whatever becomes of its call.
   *
   * An open circuit whose time has come becomes half-open here; call {@link tick} before to get the transition.
   */
  admit(nowMs: number): CircuitAdmission | CircuitRejection {
    if (this.currentState === 'closed') return this.generation;
    this.tick(nowMs);
    if (
      this.currentState === 'half_open' &&
      this.probes.inFlight < this.settings.halfOpenMax * this.early.growth(nowMs)
    ) {
      this.lastProbe++;
      this.probes.take(this.lastProbe, nowMs);
      return -this.lastProbe;
    }
    this.rejections++;
    const rejection = this.rejection!;
    const leftMs = this.halfOpenAtMs - nowMs;
    const mayEndSooner = this.currentState === 'half_open' || this.reach.unreachable;
    rejection.state = this.currentState;
    rejection.unreachable = this.reach.unreachable;
    rejection.retryAfterMs = mayEndSooner ? Math.min(leftMs, SHORT_RETRY_AFTER_MS) : leftMs;
    return rejection;
  }

  /**
   * Whether an admitted call may make another attempt: not when the circuit has opened since, and not for a probe, or
   * three probes would be nine attempts.
   */
  mayRetry(admission: CircuitAdmission): boolean {
    return this.currentState === 'closed' && admission === this.generation;
  }

  /**
   * Takes the first verdict on an admitted call: on a stream at its first message, on other calls at their end. Returns
   * the change of state; undefined without one.
   */
  settle(
    admission: CircuitAdmission,
    verdict: Verdict,
    nowMs: number,
    from: CircuitEvidence = ANY_ENDPOINT,
  ): CircuitTransition | undefined {
    if (admission < 0) return this.settleProbe(-admission, verdict, nowMs, from);
    if (!this.isCurrent(admission)) return undefined;
    switch (verdict.outcome) {
      case 'success':
        this.failures.reset();
        this.reach.answered();
        // A first message says nothing about how streams end.
        if (verdict.reason !== 'first_message') this.cuts.reset();
        this.window.add(nowMs);
        return undefined;
      case 'failure':
        this.reach.failed(from);
        if (this.lastCrash.explains(verdict, nowMs, from)) return undefined;
        this.failures.add(from.endpoint);
        this.window.addMarked(nowMs);
        return this.judge(verdict, nowMs);
      case 'neutral':
        return undefined;
      default:
        return verdict.outcome satisfies never;
    }
  }

  /**
   * Takes the second verdict on a stream that was settled with success at its first message. Failure takes that success
   * back: a stream that is cut counts as one failed call, not as half of one.
   */
  amend(
    admission: CircuitAdmission,
    verdict: Verdict,
    nowMs: number,
    from: CircuitEvidence = ANY_ENDPOINT,
  ): CircuitTransition | undefined {
    if (!this.isCurrent(admission)) return undefined;
    if (verdict.outcome === 'neutral') return undefined;
    if (admission < 0) return verdict.outcome === 'failure' ? this.reopen(verdict, nowMs, from) : undefined;
    if (verdict.outcome === 'success') {
      this.cuts.reset();
      return undefined;
    }
    this.reach.failed(from);
    if (this.lastCrash.explains(verdict, nowMs, from)) return undefined;
    this.cuts.add(from.endpoint);
    if (from.firstMessageAtMs > 0) this.window.takeBack(from.firstMessageAtMs, nowMs);
    this.window.addMarked(nowMs);
    return this.judge(verdict, nowMs);
  }

  /**
   * Applies the passage of time: an open circuit becomes half-open, and a probe without a verdict for the recovery
   * timeout gives its place back.
   */
  tick(nowMs: number): CircuitTransition | undefined {
    if (this.currentState === 'half_open') {
      this.probes.expire(nowMs - this.settings.recoveryTimeoutMs);
      return undefined;
    }
    return nowMs >= this.halfOpenAtMs ? this.moveTo('half_open', nowMs) : undefined;
  }

  /**
   * An endpoint became healthy: a connection came back, or its health check passes again. A circuit that is open
   * because no endpoint was reachable admits probes, at once or as soon as `early-probing.ts` allows it. One that
   * opened because of answers keeps its time.
   */
  endpointBack(nowMs: number): CircuitTransition | undefined {
    if (this.currentState !== 'open' || !this.reach.unreachable) return undefined;
    this.early.allow(nowMs);
    return this.tick(nowMs);
  }

  /** An endpoint gives no sign of life: if silence opened or will open the circuit, the endpoint was absent. */
  endpointAbsent(): void {
    this.reach.absent();
  }

  /**
   * All current endpoints were added since then: others gave the answers that opened the circuit. Admits probes as
   * {@link endpointBack} does.
   */
  endpointsSince(sinceMs: number, nowMs: number): CircuitTransition | undefined {
    if (this.currentState !== 'open' || sinceMs < this.openedAtMs) return undefined;
    this.early.allow(nowMs);
    return this.tick(nowMs);
  }

  /**
   * Applies new settings from now on; an open circuit keeps the time that it was opened for. Settings that turn both
   * rules off close it.
   */
  update(settings: CircuitBreakerSettings, nowMs: number): CircuitTransition | undefined {
    if (settings.windowMs !== this.settings.windowMs) this.window = new ShareWindow(settings.windowMs);
    this.settings = settings;
    const off = settings.consecutiveFailures === 0 && settings.failurePercent === 0;
    if (this.currentState === 'closed') return undefined;
    return off || this.successes >= settings.halfOpenMax ? this.close(nowMs) : undefined;
  }

  /** Whether the call was admitted in this generation. */
  private isCurrent(admission: CircuitAdmission): boolean {
    if (admission < 0) return this.currentState === 'half_open' && -admission > this.lastEarlierProbe;
    return this.currentState === 'closed' && admission === this.generation;
  }

  private settleProbe(
    probe: number,
    verdict: Verdict,
    nowMs: number,
    from: CircuitEvidence,
  ): CircuitTransition | undefined {
    if (!this.probes.release(probe) || verdict.outcome === 'neutral') return undefined;
    if (verdict.outcome === 'failure') return this.reopen(verdict, nowMs, from);
    this.successes++;
    return this.successes >= this.settings.halfOpenMax ? this.close(nowMs) : undefined;
  }

  /** A closed circuit counted a failure: opens it if a limit is reached. */
  private judge({ reason }: Verdict, nowMs: number): CircuitTransition | undefined {
    const { consecutiveFailures, failurePercent, minCalls } = this.settings;
    this.remember(reason);
    if (this.failures.reaches(consecutiveFailures, this.endpoints))
      return this.openAfterRun('consecutive_failures', this.failures.count, nowMs);
    if (this.cuts.reaches(consecutiveFailures, this.endpoints))
      return this.openAfterRun('consecutive_cuts', this.cuts.count, nowMs);
    if (failurePercent === 0) return undefined;
    const window = this.window;
    window.count(nowMs, minCalls);
    if (window.total < minCalls || window.marked * 100 < failurePercent * window.total) return undefined;
    return this.open(
      {
        rule: 'failure_percent',
        failures: window.marked,
        calls: window.total,
        overMs: window.spanMs,
        reasons: this.reasons,
      },
      nowMs,
    );
  }

  private openAfterRun(rule: CircuitCause['rule'], failures: number, nowMs: number): CircuitTransition {
    const reasons = this.reasons.slice(-failures);
    return this.open({ rule, failures, calls: failures, overMs: 0, reasons }, nowMs);
  }

  private reopen(verdict: Verdict, nowMs: number, from: CircuitEvidence): CircuitTransition {
    this.reach.failed(from);
    const cause = { rule: 'probe', failures: 1, calls: 1, overMs: 0, reasons: [verdict.reason] } as const;
    if (nowMs < this.early.probingSinceMs || nowMs >= this.dueAtMs) return this.open(cause, nowMs);
    // Without early probes the circuit would still be open: their failure does not extend it.
    this.early.failed(nowMs);
    return this.rejectFor(cause, nowMs);
  }

  private open(cause: CircuitCause, nowMs: number): CircuitTransition {
    const { recoveryTimeoutMs, windowMs } = this.settings;
    // The cluster has recovered if the circuit was closed for longer than it had been open.
    const heldMs = this.currentState === 'closed' ? nowMs - this.changedAtMs : 0;
    this.openings = heldMs > Math.max(this.wasOpenMs, windowMs) ? 1 : this.openings + 1;
    const backoff = {
      baseMs: recoveryTimeoutMs,
      multiplier: OPEN_MULTIPLIER,
      maxMs: Math.max(MAX_OPEN_MS, recoveryTimeoutMs),
    };
    // The first time it is exactly the configured time.
    this.openForMs =
      this.openings === 1 ? recoveryTimeoutMs : backoffMs(backoff, this.openings, this.random());
    this.openedAtMs = nowMs;
    this.early.reset();
    return this.rejectFor(cause, nowMs);
  }

  /** Rejects calls until the recovery timeout is over, or an endpoint is back. */
  private rejectFor(cause: CircuitCause, nowMs: number): CircuitTransition {
    this.openCause = cause;
    this.rejection = { state: 'open', cause, unreachable: this.reach.unreachable, retryAfterMs: 0 };
    return this.moveTo('open', nowMs);
  }

  private close(nowMs: number): CircuitTransition {
    this.failures.reset();
    this.cuts.reset();
    this.window.clear();
    this.reach.answered();
    this.wasOpenMs = Math.min(nowMs - this.openedAtMs, this.openForMs);
    return this.moveTo('closed', nowMs);
  }

  private moveTo(to: CircuitState, nowMs: number): CircuitTransition {
    const from = this.currentState;
    const early = to === 'half_open' && nowMs < this.dueAtMs;
    this.early.probingSinceMs = early ? nowMs : Number.POSITIVE_INFINITY;
    this.currentState = step(CIRCUIT_ARROWS, from, to);
    this.generation++;
    this.changedAtMs = nowMs;
    this.successes = 0;
    this.probes.clear();
    this.lastEarlierProbe = this.lastProbe;
    this.reasons = [];
    const opened = to === 'open';
    return {
      from,
      to,
      atMs: nowMs,
      cause: opened ? this.openCause : undefined,
      openForMs: opened ? this.dueAtMs - nowMs : 0,
      openings: this.openings,
      unreachable: early || (opened && this.reach.unreachable),
    };
  }

  private remember(reason: VerdictReason): void {
    if (this.reasons.length === REMEMBERED_REASONS) this.reasons.shift();
    this.reasons.push(reason);
  }
}
