/**
 * Keeps what an upstream has shown about each of its models: providers limit each model separately, so a 429 for one says
 * nothing about another. Pure; times are milliseconds of a clock that never goes back.
 */
import { LearnedLimit } from '../limits/learned-limit.ts';

/** The number of models of one upstream that are remembered: callers choose their names. */
const MAX_MODELS = 256;
/** How long an unpaid model waits for its next try, while another upstream serves. */
const BILLING_RECHECK_MS = 60_000;

export class ModelState {
  readonly model: string;
  readonly learned = new LearnedLimit();
  /** The number of 429 in a row. */
  throttledInARow = 0;
  /** The egress sends no request before. */
  restsUntilMs = Number.NEGATIVE_INFINITY;
  /** The status that caused the present or the last rest. */
  restsBecause = '';
  /** The provider's word for a missing payment (`insufficient_quota`); undefined while none is missing. */
  outOfCredit: string | undefined = undefined;
  /** The number of running attempts. */
  inUse = 0;
  private recheckAtMs = 0;

  constructor(model: string) {
    this.model = model;
  }

  /** Returns true when a rest begins, false when one goes on. */
  rest(forMs: number, because: string, nowMs: number): boolean {
    const untilMs = nowMs + forMs;
    if (untilMs <= this.restsUntilMs) return false;
    const begins = this.restsUntilMs <= nowMs;
    this.restsUntilMs = untilMs;
    this.restsBecause = because;
    return begins;
  }

  /** The provider demands payment before it serves the model. Returns true when that is new. */
  refuseForMoney(code: string, nowMs: number): boolean {
    const isNew = this.outOfCredit === undefined;
    this.outOfCredit = code;
    this.recheckAtMs = nowMs + BILLING_RECHECK_MS;
    return isNew;
  }

  /** Whether other upstreams come first. */
  isLastResort(nowMs: number): boolean {
    return this.outOfCredit !== undefined && nowMs < this.recheckAtMs;
  }

  /** @param tokens the most that a request may use */
  freeAtMs(tokens: number, nowMs: number): number {
    return Math.max(this.restsUntilMs, this.learned.freeAtMs(tokens, nowMs));
  }
}

/** The models of one upstream. */
export class ModelStates {
  private readonly states = new Map<string, ModelState>();

  get size(): number {
    return this.states.size;
  }

  /** Returns undefined for a model that no request has used. */
  get(model: string): ModelState | undefined {
    return this.states.get(model);
  }

  of(model: string, nowMs: number): ModelState {
    let state = this.states.get(model);
    if (state === undefined) {
      if (this.states.size >= MAX_MODELS) this.forgetOne(nowMs);
      state = new ModelState(model);
      this.states.set(model, state);
    }
    return state;
  }

  values(): Iterable<ModelState> {
    return this.states.values();
  }

  /** Forgets the oldest model without a rest or a missing payment; otherwise the oldest that is not in use. */
  private forgetOne(nowMs: number): void {
    let unused: string | undefined;
    for (const [model, state] of this.states) {
      if (state.inUse > 0) continue;
      if (state.restsUntilMs <= nowMs && state.outOfCredit === undefined) {
        this.states.delete(model);
        return;
      }
      unused ??= model;
    }
    if (unused !== undefined) this.states.delete(unused);
  }
}
