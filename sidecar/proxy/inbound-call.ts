/** A running inbound call, as the app's own calls and model requests see it. */
import type { StatusCode } from '../grpc/status.ts';
import type { ModelFailure } from '../policy/model-failure.ts';
import type { NotAgain } from '../policy/pushback.ts';
import type { TokenBudget } from '../policy/token-budget.ts';
import type { CallTrace } from './observed-call.ts';
import type { RequestInfo } from './request-info.ts';

/**
 * Work that belongs to a running inbound call and ends with it when its caller leaves: an outbound call or a model
 * request.
 */
export interface Dependent {
  /**
   * The inbound call ended without an answer of the app, and no caller waits any more.
   *
   * @param late its deadline passed; otherwise its caller left before
   */
  onOwnerGone(late: boolean): void;
}

/** The facts of an inbound call that the app's own work reads and changes (`lineage.ts`). */
export interface OwnerLineage {
  /** The path of agents that the app's own calls carry. */
  readonly path: string;
  /** Calls that the app made for this one were retried to the end: hops above must not multiply them. */
  forbidRetries(notAgain: NotAgain): void;
  /** The tokens of finished model requests that were made for it. */
  readonly modelTokens: number;
  countTokens(tokens: number): void;
  /**
   * The failure of the latest model request that was made for it, here or by an agent that it called; undefined after a
   * success.
   */
  readonly modelFailure: ModelFailure | undefined;
  noteModelFailure(failure: ModelFailure | undefined): void;
  /** The dependent ends with the call if no caller waits any more. */
  addDependent(dependent: Dependent): void;
  removeDependent(dependent: Dependent): void;
  hasDependent(dependent: Dependent): boolean;
  /** Ends the work for a call whose caller is gone. @param late its deadline passed */
  endDependents(late: boolean): void;
  /** The budget that requests draw on; the first one creates it, with this number of tokens. */
  drawOn(tokenBudget: number): TokenBudget;
  /** The tokens that requests have used or reserved. */
  readonly drawnTokens: number;
  /** The same for money, in nano-dollars. */
  drawOnMoney(nanos: number): TokenBudget;
  readonly drawnNanos: number;
  /** Its place among the running calls; -1 while it is not running. Only `InboundCalls` moves it. */
  readonly place: number;
  startAt(place: number): void;
  end(): void;
  /**
   * Distinguishes its name from that of the previous call in its place; 0 without a name. Only `InboundCalls` gives
   * one.
   */
  readonly nonce: number;
  nameBy(nonce: number): void;
}

/** The run of a task, as the app's model requests see it. */
export interface OwnerRun {
  readonly entry: { readonly fingerprint: string };
  /** Calls `listener` once with how the run has ended. */
  whenOver(listener: (status: StatusCode, taskStatus: number) => void): void;
}

/** An inbound call while the app works on it. */
export interface InboundCall {
  readonly info: RequestInfo;
  /** Separates its caller from others (`caller-scope.ts`). */
  readonly callerScope: string;
  /** Null when the call is not recorded. */
  readonly trace: CallTrace | null | undefined;
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** Its deadline, on the listener's clock; 0 without one. */
  readonly clock: { readonly deadlineMs: number };
  /** The token budget that its caller set for the task; -1 without one. */
  readonly tokenBudget: number;
  /** The money that its caller allows the task, in nano-dollars; -1 without a limit. */
  readonly moneyBudget: number;
  readonly lineage: OwnerLineage;
  /** Its part in its task (`task-role.ts`). */
  readonly role: { readonly run: OwnerRun | undefined };
}
