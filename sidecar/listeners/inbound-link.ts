import type { InboundCall, InboundCalls } from '../llm/inbound-link.ts';
import { type Headers, textOf } from '../llm/retry-after.ts';
import { TokenBudget } from '../policy/token-budget.ts';
import type {
  Dependent,
  InboundCall as RunningCall,
  InboundCalls as RunningCalls,
} from '../proxy/inbound-calls.ts';

/** Joins the agent's requests to its model with the inbound calls that they are made for. */
export class InboundLink implements InboundCalls {
  private readonly running: RunningCalls;
  /** All requests for one call draw on one budget. */
  private readonly budgets = new WeakMap<RunningCall, TokenBudget>();

  constructor(running: RunningCalls) {
    this.running = running;
  }

  find(headers: Headers): InboundCall | undefined {
    if (this.running.size === 0) return undefined;
    const owner = this.running.ownerOf(
      textOf(headers['traceparent']) ?? '',
      textOf(headers['x-task-id']) ?? '',
      textOf(headers['x-correlation-id']) ?? '',
    );
    if (owner === undefined) return undefined;
    const { call } = owner;
    return {
      deadlineMs: call.deadlineMs === 0 ? Number.POSITIVE_INFINITY : call.deadlineMs,
      taskId: call.task?.taskId ?? '',
      budget: this.budgetOf(call),
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

  /** What the call's own `outrigger-token-budget` lets its task use; undefined without one. */
  budgetOf(call: RunningCall): TokenBudget | undefined {
    const total = call.info.tokenBudget;
    if (total < 0) return undefined;
    let budget = this.budgets.get(call);
    if (budget === undefined) {
      budget = new TokenBudget(total);
      this.budgets.set(call, budget);
    }
    return budget;
  }
}
