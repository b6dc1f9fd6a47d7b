/** Describes the owner call: the inbound call that the agent serves while it sends a request to its model. */
import type { JournaledRun } from '../../journal/journal.ts';
import type { ModelFailure } from '../../policy/model-failure.ts';
import type { TaskMoney } from '../../policy/task-money.ts';
import type { TokenBudget } from '../../policy/token-budget.ts';
import type { Headers } from './headers.ts';

/** A running inbound call, with what it allows the requests that the agent makes for it. */
export interface OwnerCall {
  /** The call's deadline by the sidecar's clock; Infinity without one. */
  readonly deadlineMs: number;
  /**
   * Distinguishes the caller from others, who may give their tasks the same ids; '' where nothing does. Undefined where
   * the request may be for calls of several callers. An owner that may be one of several calls has no task, no budget and
   * no end.
   */
  readonly callerScope: string | undefined;
  /** The id of the call's task; '' without one. */
  readonly taskId: string;
  /** The budget of its task; undefined without one. */
  readonly budget: TokenBudget | undefined;
  /** The money of its task, in nano-dollars; undefined without a limit. */
  readonly money?: TokenBudget | undefined;
  /**
   * Calls `listener` once when the call is over without an answer of the agent: `late` when its deadline has passed, false
   * when its caller gave up before. Returns a function that unsubscribes.
   */
  onEnd(listener: (late?: boolean) => void): () => void;
  /** The run of its task, under which answers are kept for the next run; undefined where the task is not certain. */
  readonly run?: JournaledRun | undefined;
  /** A request for this call has ended, and has used so many tokens. */
  spend?(tokens: number): void;
  /** A request for this call has failed in this way; undefined when it succeeded. */
  modelEnded?(failure: ModelFailure | undefined): void;
}

export interface OwnerCalls {
  /** The money of tasks, on which their calls to other agents draw, too. */
  readonly taskMoney?: TaskMoney;
  /** Finds the call by its name in `baggage`, or by another id that the agent passes on; undefined when none fits. */
  find(headers: Headers): OwnerCall | undefined;
  /** Whether the request names an inbound call that has ended. */
  isOver?(headers: Headers): boolean;
}
