/** Describes the owner call: the inbound call that the agent serves while it makes a request to its model. */
import type { ModelFailure } from '../../policy/model-failure.ts';
import type { TokenBudget } from '../../policy/token-budget.ts';
import type { Headers } from './headers.ts';

/** An inbound call that runs: what it allows the requests that are made for it. */
export interface OwnerCall {
  /** By the sidecar's clock; Infinity without a deadline. */
  readonly deadlineMs: number;
  /**
   * Tells its caller from others, who may give their tasks the same ids; '' where nothing does. Undefined where calls of several
   * callers may be meant. Where it is one of several calls, of one caller or more, it has no task, no budget and no end.
   */
  readonly callerScope: string | undefined;
  /** '' when it carries no task. */
  readonly taskId: string;
  /** Of its task; undefined when it has none. */
  readonly budget: TokenBudget | undefined;
  /**
   * Calls `listener` once when the call is over without an answer of the agent: `late` when its time was up, false when
   * its caller has given up before. Gives the way to unsubscribe.
   */
  onEnd(listener: (late?: boolean) => void): () => void;
  /** A request has ended that was made for it, and used so many tokens. */
  spend?(tokens: number): void;
  /** So has it ended; undefined when it succeeded. */
  modelEnded?(failure: ModelFailure | undefined): void;
}

export interface OwnerCalls {
  /** By its name in `baggage`, or another id that the agent passes on; undefined when no running call fits. */
  find(headers: Headers): OwnerCall | undefined;
}
