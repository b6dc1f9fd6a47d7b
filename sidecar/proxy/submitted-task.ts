/** Gives a task that an app submits to the bus what a call of it would carry: its path, and a part of its budgets. */
import { CALL_PATH_HEADER } from '../policy/call-path.ts';
import type { ProxyContext } from './context.ts';
import { pathOfUnknownOwner } from './ownership.ts';
import type { RequestInfo } from './request-info.ts';
import { type GivenBudgets, partFor, settlePart } from './task-budget.ts';

interface TaskIds {
  readonly taskId: string;
  readonly correlationId: string;
}

/** What an outbound task gets of the inbound call that its app submits it for. */
export class SubmittedLineage {
  /** They replace those of the same names. */
  readonly fields: readonly string[];
  private readonly part: GivenBudgets | undefined;

  constructor(
    context: Pick<ProxyContext, 'inboundCalls' | 'callPath'>,
    info: RequestInfo,
    { taskId, correlationId }: TaskIds,
  ) {
    const found = context.inboundCalls.ownerOf(info, taskId, correlationId);
    // Who submits beside an agent that works on one call may be another program: it has to name that call.
    const owner = found?.by === 'alone' ? undefined : found;
    const fields: string[] = [];
    if (owner !== undefined)
      fields.push(CALL_PATH_HEADER, info.callPath || owner.callPath || pathOfUnknownOwner(context));
    this.part = owner?.call && partFor(owner.call, info, context.inboundCalls);
    if (this.part !== undefined) fields.push(...this.part.fields);
    this.fields = fields;
  }

  /** Nobody will report what a stored task uses, which may outlive the call: it counts in full. */
  end(isStored: boolean): void {
    const used = isStored ? undefined : 0;
    settlePart(this.part?.tokens, used);
    settlePart(this.part?.money, used);
  }
}
