/** The wait between two attempts of a call, and the facts of the call that the retry policy reads. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import type { CallKey } from '../cluster/balancer/balancer.ts';
import { hashKey } from '../cluster/balancer/ring.ts';
import { PoolState } from '../cluster/connection/pool-state.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { encodingBit } from '../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import { timeLeftMs } from '../policy/deadline.ts';
import type { RetryCall } from '../policy/retry.ts';
import { isTaskPath } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import type { AdmittedFacts, CallWith, PlacedFacts } from './call-facts.ts';

/** A call that waits for its next attempt. */
export interface WaitingCall extends PlacedFacts, CallWith<'context' | 'progress'> {
  readonly tries: { endWait(): void };
  /** The back-off is over. */
  onRetryDue(failed: Attempt, sameEndpoint: boolean): void;
}

/** The parts of a failed call that the policy reads. */
type FailedCall = CallWith<
  | 'info'
  | 'attempts'
  | 'transparentRetries'
  | 'callersAttempts'
  | 'progress'
  | 'request'
  | 'clock'
  | 'tries'
  | 'task',
  'readTask'
> &
  AdmittedFacts;

/** The wait of a call between two attempts. */
export class RetryWait extends Timer {
  private readonly call: WaitingCall;
  private readonly wheel: TimerWheel;
  private readonly failed: Attempt;
  /** The next attempt goes to the endpoint that may be running the task. */
  readonly sameEndpoint: boolean;
  /** It has a place in the retry budget. */
  private readonly budgeted: boolean;

  constructor(call: WaitingCall, failed: Attempt, sameEndpoint: boolean, budgeted = true) {
    super();
    this.call = call;
    this.wheel = call.context.wheel;
    this.failed = failed;
    this.sameEndpoint = sameEndpoint;
    this.budgeted = budgeted;
  }

  start(afterMs: number): void {
    this.wheel.arm(this, this.call.context.clock() + afterMs);
  }

  override onTimeout(): void {
    this.call.tries.endWait();
    if (!this.call.progress.isDone) this.call.onRetryDue(this.failed, this.sameEndpoint);
  }

  /** The call ended during the wait: gives its place in the budget back. */
  cancel(): void {
    if (!this.armed) return;
    this.wheel.cancel(this);
    if (this.budgeted) this.call.cluster.policies.budget.release();
  }
}

/** Collects the facts that the retry policy reads of a call whose attempt has just failed. */
export function retryCallOf(call: FailedCall, attempt: Attempt, nowMs: number): RetryCall {
  const cluster = call.cluster;
  const { endpoint } = attempt;
  const others = cluster.usableCount - (endpoint.usable ? 1 : 0);
  return {
    method: call.info.method,
    attempts: call.attempts - call.transparentRetries,
    callersAttempts: call.callersAttempts,
    responseStarted: call.progress.isAnswering,
    requestWhole: call.request.whole,
    timeLeftMs: timeLeftMs(call.clock.deadlineMs, nowMs),
    usualLatencyMs: cluster.policies.medianLatencyMs(call.info.method),
    backoffStep: call.tries.backoffStep,
    deduplicated: isDeduplicated(call, attempt),
    unknownBefore: call.tries.unknownBefore,
    circuitAllows: call.circuit.mayRetry,
    otherEndpoints: others,
    sameReachable: isReachable(endpoint),
    callsInFlight: cluster.activeCalls,
  };
}

/**
 * Whether to hold the response head of a unary call. Servers that send it before they know the outcome would otherwise
 * prevent retries.
 */
export function holdsHead(
  { cluster, info, request }: AdmittedFacts & CallWith<'info' | 'request'>,
  attempt: Attempt,
): boolean {
  return !attempt.streaming && info.grpc && request.whole && cluster.policies.retry.maxAttempts > 1;
}

/** Whether the call carries a task id, and the endpoint's sidecar has announced that it runs each task once. */
function isDeduplicated(call: FailedCall, attempt: Attempt): boolean {
  if (!isTaskPath(call.info.method) || !call.cluster.policies.settings.task.deduplicate) return false;
  const { tasksOnceMaxBytes, tasksOnceEncodings } = attempt.endpoint;
  if (call.request.bytes > tasksOnceMaxBytes) return false;
  const message = call.readTask(true);
  if (message === undefined || call.task === undefined) return false;
  if (call.task.taskId === '' && !isKnownByStream(call, attempt)) return false;
  if (message.flag === 0) return true;
  const isRead = message.whole && PREFIX_BYTES + message.end - message.start <= tasksOnceMaxBytes;
  return isRead && (tasksOnceEncodings & encodingBit(call.info.encoding)) !== 0;
}

/**
 * Whether the endpoint's sidecar knows a task without an id by the stream that it came on. No other endpoint would know it,
 * so this holds only while that one can be reached.
 */
function isKnownByStream({ info, request }: FailedCall, { endpoint, first }: Attempt): boolean {
  if (info.kind !== 'task_stream' || !request.ended || first === undefined) return false;
  return streamsResumeMs(first.connection.peer) > 0 && isReachable(endpoint);
}

function isReachable({ removed, pool }: Endpoint): boolean {
  return !removed && pool.state !== PoolState.backingOff;
}

/** Fills in the key that the balancer picks by: the task's id, and the endpoint that has just failed. */
export function fillKey(
  key: CallKey<Endpoint>,
  call: CallWith<'task'>,
  avoid: Endpoint | undefined,
): CallKey<Endpoint> {
  key.hash = call.task === undefined || call.task.taskId === '' ? 0 : hashKey(call.task.taskId);
  key.avoid = avoid;
  return key;
}
