/** Makes the steps of a run that the log stores, and tells of each: its beginning, and the ways in which it can end. */

import type { TaskLease } from '../log/task-log.ts';
import { encodeResult } from '../message/payload.ts';
import type { MissingKeyError } from '../message/sealer.ts';
import type { LeaseKeeper } from './lease-keeper.ts';
import { persist } from './persist.ts';
import type { RunContext } from './run-context.ts';

/** How a run ended for the place that it had. `turned_away`: this sidecar can run nothing now; wait before the next one. */
export type RunOutcome = 'ended' | 'turned_away';

export class RunSteps {
  private readonly context: RunContext;
  private readonly lease: TaskLease;
  private readonly keeper: LeaseKeeper;

  constructor(context: RunContext, lease: TaskLease, keeper: LeaseKeeper) {
    this.context = context;
    this.lease = lease;
    this.keeper = keeper;
  }

  /** @param afterLease whether it is tried also when the lease may have ended: the fence decides */
  store(step: () => Promise<void>, afterLease = false): Promise<void> {
    const { context, keeper } = this;
    return persist(step, () => !context.isClosing && (afterLease || !keeper.isOver), context.random);
  }

  settle(status: number, statusMessage: string): Promise<RunOutcome> {
    return this.settleWith(
      status,
      encodeResult({ statusMessage, head: [], trailers: [], answer: undefined }),
    );
  }

  async settleWith(status: number, payload: Buffer): Promise<RunOutcome> {
    const { sealer, events } = this.context;
    const sealed = sealer.seal(payload);
    // The result is paid for: it counts as long as the log has given the task to nobody else.
    await this.store(() => this.lease.settle({ status, payload: sealed }), true);
    events.onSettled(this.lease.record, status);
    return 'ended';
  }

  async giveBack(because: string): Promise<RunOutcome> {
    await this.store(() => this.lease.giveBack());
    this.context.events.onGivenBack(this.lease.record, because);
    return 'ended';
  }

  /** While keys are given out, some sidecars have them and others do not yet: the task waits for one that can read it. */
  async leaveToOthers({ message }: MissingKeyError): Promise<RunOutcome> {
    try {
      await this.giveBack(message);
    } catch (error) {
      this.context.events.onProblem(error);
    }
    return 'turned_away';
  }

  async lose(cause: string): Promise<RunOutcome> {
    await this.store(() => this.lease.lose(cause));
    this.context.events.onLost(this.lease.record, cause);
    return 'ended';
  }

  async bury(cause: string): Promise<RunOutcome> {
    const { events } = this.context;
    try {
      await this.store(() => this.lease.bury(cause));
      events.onBuried(this.lease.record, cause);
    } catch (error) {
      events.onProblem(error);
    }
    return 'ended';
  }
}
