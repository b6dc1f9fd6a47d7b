/**
 * Keeps what an upstream has let know of one of its models: providers limit each model by itself, so a 429 for one says
 * nothing about another. Pure; times are milliseconds of a clock that never goes back.
 */
import { LearnedLimit } from '../limits/learned-limit.ts';

/** Models of one upstream that are remembered: their names come from whoever asks. */
const MAX_MODELS = 256;
/** A model that was refused for want of money is tried again after so long, where another upstream serves meanwhile. */
const BILLING_RECHECK_MS = 60_000;

export class ModelState {
  readonly model: string;
  readonly learned = new LearnedLimit();
  /** Answers of 429 without another in between. */
  throttledInARow = 0;
  /** Nothing is sent before. */
  restsUntilMs = Number.NEGATIVE_INFINITY;
  /** Why it rests, or rested last: the status. */
  restsBecause = '';
  /** The provider's word for money that is missing (`insufficient_quota`); undefined while there is none. */
  outOfCredit: string | undefined = undefined;
  /** Attempts under way. */
  inUse = 0;
  private recheckAtMs = 0;

  constructor(model: string) {
    this.model = model;
  }

  /** True when a rest begins, false when one goes on. */
  rest(forMs: number, because: string, nowMs: number): boolean {
    const untilMs = nowMs + forMs;
    if (untilMs <= this.restsUntilMs) return false;
    const begins = this.restsUntilMs <= nowMs;
    this.restsUntilMs = untilMs;
    this.restsBecause = because;
    return begins;
  }

  /** The provider wants to be paid before it serves the model. True when that is new. */
  refuseForMoney(code: string, nowMs: number): boolean {
    const isNew = this.outOfCredit === undefined;
    this.outOfCredit = code;
    this.recheckAtMs = nowMs + BILLING_RECHECK_MS;
    return isNew;
  }

  /** Others are asked first. */
  isLastResort(nowMs: number): boolean {
    return this.outOfCredit !== undefined && nowMs < this.recheckAtMs;
  }

  /** @param tokens what a request may use */
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

  /** Undefined while nothing is known of it. */
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

  /** The oldest of which nothing follows; else the oldest that is not in use. */
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
