/** Reports a recorded call's events to its trace. */
import type { OutlierEvent } from '../cluster/outlier/detector.ts';
import type { CircuitTransition } from '../policy/circuit-state.ts';
import type { GiveUpReason, RetryDecision } from '../policy/retry.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { CallWith } from './call-facts.ts';
import type { CallTrace, ObservedCall, TraceOwner } from './observed-call.ts';

/**
 * Reports what happens to a call to its trace. Callers first check that the call is recorded: for other calls, and
 * while tracing is off, no function here is called and nothing is allocated.
 */

/** A call whose record begins or ends. */
export type RecordedCall = ObservedCall & CallWith<'context'> & { trace: CallTrace | null | undefined };
/** A call that adds an event to its record. */
type TracingCall = CallWith<'context' | 'trace'>;

/** Decides whether to record the call, once its owner is known. The first decision stands. */
export function beginTrace(call: RecordedCall): void {
  const { tracer } = call.context;
  if (tracer !== undefined && call.trace === undefined) call.trace = tracer.begin(call);
}

/** The call receives another call's answer; its trace links to that call's trace while that call runs. */
export function followTrace(
  call: RecordedCall,
  runner: TraceOwner | undefined,
  how: 'joined' | 'replayed',
): void {
  beginTrace(call);
  call.trace?.follow(runner?.trace, how);
}

/** Reads a recorded task's ids as soon as its message arrives: the request may be dropped later. */
export function readTracedTask(call: CallWith<'info', 'readTask'>): void {
  if (isTaskPath(call.info.method)) call.readTask(false);
}

export function traceCircuit(call: TracingCall, { from, to }: CircuitTransition): void {
  const name = to === 'open' ? 'outrigger.circuit_opened' : 'outrigger.circuit_changed';
  const details = ['outrigger.circuit.from', from, 'outrigger.circuit.to', to];
  call.trace?.event(name, call.context.clock(), details);
}

/** Notes that the end of the attempt had its endpoint ejected. */
export function traceOutlier(call: TracingCall, { kind, reason, endpoint }: OutlierEvent): void {
  if (kind !== 'ejected') return;
  const details = ['outrigger.ejection.reason', reason, 'outrigger.endpoint', endpoint.address];
  call.trace?.attemptEvent('outrigger.endpoint_ejected', call.context.clock(), details);
}

/**
 * Whether a trace has the reason. The others hold for every call of this kind and say nothing about this one: its
 * cluster, or its status, is never retried.
 */
const TRACED_REASONS: Readonly<Record<GiveUpReason, boolean>> = {
  committed: false,
  retries_off: false,
  ended: false,
  code: false,
  pushback: true,
  attempts_exhausted: true,
  not_safe: true,
  request_dropped: true,
  circuit: true,
  deadline: true,
  budget_exhausted: true,
};

export function traceRetry(call: TracingCall, decision: RetryDecision): void {
  const nowMs = call.context.clock();
  if (decision.again)
    call.trace?.event('outrigger.retry', nowMs, ['outrigger.retry.after_ms', decision.afterMs]);
  else if (TRACED_REASONS[decision.reason])
    call.trace?.event('outrigger.retry_refused', nowMs, ['outrigger.retry.reason', decision.reason]);
}

/** The call is over. Decides now about a call that was answered before the tracer could decide. */
export function endTrace(call: RecordedCall): void {
  beginTrace(call);
  call.trace?.end(call, call.context.clock());
}
