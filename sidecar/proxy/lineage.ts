/** The relations of a call: the inbound call that it is made for, and the work that the app does for it. */
import type { ModelFailure } from '../policy/model-failure.ts';
import { MoneyBudget } from '../policy/money.ts';
import { NotAgain } from '../policy/pushback.ts';
import { type Reservation, TokenBudget, type TokenSource } from '../policy/token-budget.ts';
import type { Dependent, InboundCall, OwnerLineage } from './inbound-call.ts';
import type { Owner } from './inbound-calls.ts';

/** A part of a budget that a call may use: reserved until the call tells its use. */
export interface GivenPart {
  readonly source: TokenSource;
  readonly reservation: Reservation;
}

/**
 * An outbound call has an owner, and an inbound call is one:
 *
 *     caller ──▶ inbound call ◀──owner── outbound call ──▶ another agent
 *                     │ ▲                     │
 *                     │ └── dependents ───────┘
 *                     └── budgets ──given──▶
 *
 * Other files read these fields; only these methods write them.
 */
export class Lineage implements OwnerLineage {
  // --- The call that it is made for ------------------------------------------------------------------------

  /** The inbound call that the app makes this outbound call for. */
  owner: InboundCall | undefined = undefined;
  /** The head of this call names an inbound call that is over. */
  isOwnerOver = false;
  /** The agents that its owner has come through; '' when the owner's path is not certain. */
  ownersPath = '';
  /** The latest deadline of the calls that may own this one; 0 when one of them has none, or the owner is known. */
  private candidatesDeadlineMs = 0;
  /** What the running attempt may use of its owner's budgets. */
  givenTokens: GivenPart | undefined = undefined;
  givenMoney: GivenPart | undefined = undefined;
  /** The agents that the call has come through, this one included; '' when unknown or not checked. */
  path = '';
  /** The callers that must not try again, as this hop or an outbound call of the app found. */
  notAgain: NotAgain = NotAgain.NOBODY;

  // --- The work that is made for it ------------------------------------------------------------------------

  place = -1;
  nonce = 0;
  modelTokens = 0;
  modelFailure: ModelFailure | undefined = undefined;
  private dependents: Set<Dependent> | undefined = undefined;
  /** Created with the first request that draws on it. */
  private budget: TokenBudget | undefined = undefined;
  private money: MoneyBudget | undefined = undefined;

  /** When the owner, or the last of the candidates, must be over; 0 for no limit. */
  get ownersDeadlineMs(): number {
    return this.owner?.clock.deadlineMs ?? this.candidatesDeadlineMs;
  }

  /** The call belongs to this owner, or to one of several candidates. */
  belongTo({ call, callPath, deadlineMs }: Owner): void {
    this.ownersPath = callPath;
    if (call === undefined) this.candidatesDeadlineMs = deadlineMs;
    else this.owner = call;
  }

  /** The call belongs to no running call. */
  noteOwnerOver(): void {
    this.isOwnerOver = true;
  }

  /** @param path the agents that the call has come through, this one included */
  comeThrough(path: string): void {
    this.path = path;
  }

  /** An attempt has these parts of its owner's budgets. */
  take(tokens: GivenPart | undefined, money: GivenPart | undefined): void {
    this.givenTokens = tokens;
    this.givenMoney = money;
  }

  /** The attempt's parts are settled. */
  settleGiven(): void {
    this.givenTokens = undefined;
    this.givenMoney = undefined;
  }

  forbidRetries(notAgain: NotAgain): void {
    if (this.notAgain < notAgain) this.notAgain = notAgain;
  }

  startAt(place: number): void {
    this.place = place;
  }

  nameBy(nonce: number): void {
    this.nonce = nonce;
  }

  end(): void {
    this.place = -1;
  }

  addDependent(dependent: Dependent): void {
    this.dependents ??= new Set();
    this.dependents.add(dependent);
  }

  removeDependent(dependent: Dependent): void {
    this.dependents?.delete(dependent);
  }

  hasDependent(dependent: Dependent): boolean {
    return this.dependents?.has(dependent) === true;
  }

  endDependents(late: boolean): void {
    const { dependents } = this;
    if (dependents === undefined) return;
    this.dependents = undefined;
    for (const dependent of dependents) dependent.onOwnerGone(late);
  }

  drawOn(tokenBudget: number): TokenBudget {
    this.budget ??= new TokenBudget(tokenBudget);
    return this.budget;
  }

  get drawnTokens(): number {
    return this.budget === undefined ? 0 : this.budget.spent + this.budget.reserved;
  }

  drawOnMoney(nanos: number): MoneyBudget {
    this.money ??= new MoneyBudget(nanos);
    return this.money;
  }

  get drawnNanos(): number {
    return this.money === undefined ? 0 : this.money.spent + this.money.reserved;
  }

  countTokens(tokens: number): void {
    this.modelTokens += tokens;
  }

  noteModelFailure(failure: ModelFailure | undefined): void {
    this.modelFailure = failure;
  }
}
