import type { ModelFailure } from '../policy/model-failure.ts';
import type { NotAgain } from '../policy/pushback.ts';
import type { CallTrace } from './observed-call.ts';
import type { RequestInfo } from './request-info.ts';

/** What belongs to a running inbound call, and ends with it when its caller gives up: an outbound call, a model's. */
export interface Dependent {
  /**
   * The inbound call is over without having been answered by the app: nobody waits any more.
   *
   * @param late its time was up; otherwise its caller has given up before
   */
  onOwnerGone(late: boolean): void;
}

/** An inbound call while the app works on it. */
export interface InboundCall {
  readonly info: RequestInfo;
  /** What tells its caller from others (`caller-scope.ts`). */
  readonly callerScope: string;
  /** Null when the call is not recorded. */
  readonly trace: CallTrace | null | undefined;
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** On the listener's clock; 0 without a deadline. */
  readonly deadlineMs: number;
  /** Tokens that its task may use, by its caller; -1 without such a budget. */
  readonly tokenBudget: number;
  /** What its agent's own calls say of where they come from. */
  readonly callPath: string;
  /** The app has had calls made for it that were tried to the end: hops above must not multiply them. */
  notAgain: NotAgain;
  dependents: Set<Dependent> | undefined;
  /** Where it is among those that are running; -1 while it is not. Only `InboundCalls` writes it. */
  runningAt: number;
  /** Makes its name unlike that of the call before it in its place; 0 when it has no name. So too. */
  nonce: number;
  /** Tokens of the requests to models that were made for it, as far as they are over. */
  modelTokens: number;
  /** Of the last request to a model that was made for it, here or by an agent that it called; undefined where that succeeded. */
  modelFailure: ModelFailure | undefined;
}
