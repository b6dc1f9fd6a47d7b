import type { InboundCall, InboundCalls } from '../llm/inbound-link.ts';
import { type Headers, textOf } from '../llm/retry-after.ts';
import type { Dependent, InboundCalls as RunningCalls } from '../proxy/inbound-calls.ts';
import { budgetOf } from '../proxy/task-budget.ts';

/** Joins the agent's requests to its model with the inbound calls that they are made for. */
export class InboundLink implements InboundCalls {
  private readonly running: RunningCalls;

  constructor(running: RunningCalls) {
    this.running = running;
  }

  find(headers: Headers): InboundCall | undefined {
    if (this.running.size === 0) return undefined;
    const taskId = textOf(headers['x-task-id']) ?? '';
    const correlationId = textOf(headers['x-correlation-id']) ?? '';
    // Several tasks can be in one trace: the task's own id says more.
    const call =
      this.running.ofTask(taskId, '') ??
      this.running.ownerOf(textOf(headers['traceparent']) ?? '', taskId, correlationId)?.call;
    if (call === undefined) return undefined;
    return {
      deadlineMs: call.deadlineMs === 0 ? Number.POSITIVE_INFINITY : call.deadlineMs,
      taskId: call.task?.taskId ?? '',
      budget: budgetOf(call),
      onEnd: (listener) => {
        const dependent: Dependent = { onOwnerGone: listener };
        call.dependents ??= new Set();
        call.dependents.add(dependent);
        return () => void call.dependents?.delete(dependent);
      },
      spend: (tokens) => {
        call.modelTokens += tokens;
      },
    };
  }
}
