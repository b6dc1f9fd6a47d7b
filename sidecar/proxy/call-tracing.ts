import type { OutlierEvent } from '../cluster/outlier/detector.ts';
import type { CircuitTransition } from '../policy/circuit-state.ts';
import type { RetryDecision } from '../policy/retry.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { CallWith } from './call-facts.ts';
import type { CallTrace, ObservedCall, TraceOwner } from './observed-call.ts';

/**
 * Where the proxy tells a call's trace what happens. Whoever calls these has looked first whether the call is recorded:
 * for all others, and while tracing is off, nothing is called and nothing is made.
 */

/** A call whose record begins, or ends. */
export type RecordedCall = ObservedCall & CallWith<'context'> & { trace: CallTrace | null | undefined };
/** A call whose record is told of something. */
type TracingCall = CallWith<'context' | 'trace'>;

/** Decides whether the call is recorded, when what it belongs to is known. The first decision holds. */
export function beginTrace(call: RecordedCall): void {
  const { tracer } = call.context;
  if (tracer !== undefined && call.trace === undefined) call.trace = tracer.begin(call);
}

/** The call gets the answer of another one, whose trace it points to while that one runs. */
export function followTrace(
  call: RecordedCall,
  runner: TraceOwner | undefined,
  how: 'joined' | 'replayed',
): void {
  beginTrace(call);
  call.trace?.follow(runner?.trace, how);
}

/** Reads a recorded task's ids as soon as its message is here: later the request may be gone. */
export function readTracedTask(call: CallWith<'info', 'readTask'>): void {
  if (isTaskPath(call.info.method)) call.readTask(false);
}

export function traceCircuit(call: TracingCall, { from, to }: CircuitTransition): void {
  const name = to === 'open' ? 'outrigger.circuit_opened' : 'outrigger.circuit_changed';
  const details = ['outrigger.circuit.from', from, 'outrigger.circuit.to', to];
  call.trace?.event(name, call.context.clock(), details);
}

/** The attempt that has just ended was the last straw for its endpoint, or let it off. */
export function traceOutlier(call: TracingCall, { kind, reason, endpoint }: OutlierEvent): void {
  if (kind !== 'ejected') return;
  const details = ['outrigger.ejection.reason', reason, 'outrigger.endpoint', endpoint.address];
  call.trace?.attemptEvent('outrigger.endpoint_ejected', call.context.clock(), details);
}

/** Reasons that say nothing of this call: its cluster, or what it was answered with, is never tried again. */
const PLAIN_REASONS: ReadonlySet<string> = new Set(['committed', 'retries_off', 'ended', 'code']);

export function traceRetry(call: TracingCall, decision: RetryDecision): void {
  const nowMs = call.context.clock();
  if (decision.again)
    call.trace?.event('outrigger.retry', nowMs, ['outrigger.retry.after_ms', decision.afterMs]);
  else if (!PLAIN_REASONS.has(decision.reason))
    call.trace?.event('outrigger.retry_refused', nowMs, ['outrigger.retry.reason', decision.reason]);
}

/** The call is over. What was answered before anything was decided is decided on now. */
export function endTrace(call: RecordedCall): void {
  beginTrace(call);
  call.trace?.end(call, call.context.clock());
}
