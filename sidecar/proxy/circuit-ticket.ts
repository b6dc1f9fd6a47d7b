/** Pairs a call with its circuit: one verdict for each admission. */
import type { CircuitBreaker } from '../policy/circuit-breaker.ts';
import {
  ANY_ENDPOINT,
  type CircuitAdmission,
  type CircuitEvidence,
  type CircuitTransition,
} from '../policy/circuit-state.ts';
import { VERDICTS } from '../policy/verdicts.ts';
import type { Attempt } from './attempt.ts';

/** An admitted call owes its circuit one verdict, which a later one may amend. */
export class CircuitTicket {
  readonly breaker: CircuitBreaker;
  private readonly admission: CircuitAdmission;
  /** The circuit has received the first verdict. */
  private settled = false;

  constructor(breaker: CircuitBreaker, admission: CircuitAdmission) {
    this.breaker = breaker;
    this.admission = admission;
  }

  /** Whether the circuit allows another attempt. */
  get mayRetry(): boolean {
    return this.breaker.mayRetry(this.admission);
  }

  /** Settles a stream at its first message. */
  firstMessage(attempt: Attempt, nowMs: number): CircuitTransition | undefined {
    if (this.settled) return undefined;
    attempt.firstMessageAtMs = nowMs;
    this.settled = true;
    return this.breaker.settle(this.admission, VERDICTS.first_message, nowMs, attempt);
  }

  /** The call ended without an attempt (no endpoint, or its caller left): gives the place back. */
  giveBack(nowMs: number): CircuitTransition | undefined {
    if (this.settled) return undefined;
    this.settled = true;
    return this.breaker.settle(this.admission, VERDICTS.undecided, nowMs);
  }

  /**
   * The call is over: settles it by the attempt that decided it.
   *
   * @param several attempts failed at more endpoints than this one's
   */
  settle(
    attempt: Attempt,
    several: boolean,
    cluster: { readonly usableCount: number },
    nowMs: number,
  ): CircuitTransition | undefined {
    const { breaker, admission } = this;
    const { circuitVerdict: verdict, unreachable, silent } = attempt;
    // With two or more endpoints, a run of failures must come from at least two. Count them only when it matters.
    if (verdict.outcome === 'failure') breaker.endpoints = cluster.usableCount;
    const evidence: CircuitEvidence = several ? { ...ANY_ENDPOINT, unreachable, silent } : attempt;
    if (this.settled) return breaker.amend(admission, verdict, nowMs, evidence);
    this.settled = true;
    return breaker.settle(admission, verdict, nowMs, evidence);
  }
}
