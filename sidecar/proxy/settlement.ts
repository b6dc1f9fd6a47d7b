/** Judges each attempt at its end, and reports the verdict to the balancer, the outlier detector and the circuit. */
import { observeFailure, observeLatency } from '../cluster/balancer/rtt.ts';
import { ATTEMPT_COMES_BACK, isSidecar } from '../grpc/sidecar-settings.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { EndKind } from '../policy/attempt-end.ts';
import type { CircuitTransition } from '../policy/circuit-state.ts';
import { NEVER, NotAgain } from '../policy/pushback.ts';
import { verdictForCircuit, verdictOf } from '../policy/verdict.ts';
import { TaskStatus } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import { type AdmittedFacts, type CallWith, isAdmitted, type PlacedFacts } from './call-facts.ts';
import { traceCircuit, traceOutlier } from './call-tracing.ts';
import { countGoingAway, goesAway } from './going-away.ts';
import type { ObservedCall } from './observed-call.ts';
import type { ResponseInfo } from './response-info.ts';
import { judgeReach } from './silence.ts';

/** A call that reports to its circuit. */
type CircuitCall = AdmittedFacts & CallWith<'context' | 'info' | 'trace'>;
/** A call whose attempt is judged; observers may read all of it. */
export type SettledCall = ObservedCall &
  AdmittedFacts &
  CallWith<'context' | 'info' | 'trace' | 'request' | 'clock'>;
/** A call that gives up its attempts. */
export type GivenUpCall = Omit<SettledCall, keyof AdmittedFacts> &
  CallWith<'attempt' | 'tries' | 'cluster' | 'circuit'>;

/**
 * Judges each attempt's end once (`policy/verdict.ts`), and reports the verdict to the outlier detector, the balancer
 * and, at the end of the call, the circuit breaker.
 */

/** The request is complete: from here on the endpoint owes the answer. */
export function awaitAnswer(call: PlacedFacts & CallWith<'context' | 'info'>, attempt: Attempt): void {
  call.cluster.outliers.detector.awaitAnswer(attempt, call.info.method, call.context.clock());
}

/**
 * The first byte of a response message arrived: it gives the latency that a caller sees, and a stream its first
 * verdict.
 */
export function settleFirstMessage(call: CircuitCall, attempt: Attempt, nowMs: number): void {
  const { endpoint } = attempt;
  const cluster = call.cluster;
  const latencyMs = nowMs - attempt.startedAtMs;
  const isWhole = attempt.resume === undefined;
  if (isWhole) observeLatency(endpoint, latencyMs, nowMs);
  cluster.outliers.report(cluster.outliers.detector.answered(attempt, call.info.method, nowMs));
  attempt.answered = true;
  const policies = cluster.policies;
  if (isWhole) policies.recordLatency(call.info.method, latencyMs, nowMs);
  attempt.clock?.stop();
  if (attempt.streaming) reportCircuit(call, call.circuit.firstMessage(attempt, nowMs));
}

/** An attempt ended; `info` is set if an answer ended it. Reports the verdict to all but the circuit breaker. */
export function settleAttempt(
  call: SettledCall,
  attempt: Attempt,
  kind: EndKind,
  status: StatusCode,
  code: number,
  info: ResponseInfo | undefined,
): void {
  if (attempt.settled) return;
  attempt.settle();
  attempt.clock?.stop();
  const cluster = call.cluster;
  const nowMs = call.context.clock();
  const policies = cluster.policies;
  attempt.kind = kind;
  attempt.status = status;
  attempt.code = code;
  attempt.elapsedMs = nowMs - attempt.startedAtMs;
  attempt.answerOwed = call.request.ended || attempt.stream?.queue !== undefined;
  attempt.deadlineOwner = call.clock.deadlineOwner;
  const { deadlineMs } = call.clock;
  if (deadlineMs > 0) attempt.allowedMs = deadlineMs - attempt.startedAtMs;
  if (info !== undefined) {
    readInfo(attempt, info);
  }
  const { scanner } = attempt;
  if (scanner?.seen === true) {
    if (scanner.status === TaskStatus.FAILED) attempt.taskFailure = 'failed';
    else if (scanner.status === TaskStatus.TIMEOUT) attempt.taskFailure = 'timeout';
  }
  const judgesTime =
    kind === 'deadline' ||
    kind === 'reset' ||
    status === Status.DEADLINE_EXCEEDED ||
    status === Status.CANCELLED ||
    attempt.taskFailure === 'timeout';
  attempt.goingAway ||= goesAway(attempt);
  attempt.requestIrregular = status !== Status.OK && call.info.irregular;
  const verdict = verdictOf(attempt, {
    taskStatusIsVerdict: policies.settings.task.statusIsVerdict,
    usualLatencyMs: judgesTime ? policies.usualLatencyMs(call.info.method) : 0,
  });
  attempt.verdict = verdict;
  judgeReach(call, attempt, nowMs);
  countGoingAway(attempt);
  // Compute it before this end can eject the endpoint: the circuit ignores only attempts that an earlier ejection
  // covers.
  attempt.circuitVerdict = verdictForCircuit(verdict, attempt.startedAtMs, ejectedAtMs(attempt));
  const { outliers } = cluster;
  const outlier = outliers.detector.end(attempt, verdict.outcome, nowMs);
  outliers.report(outlier);
  if (verdict.cooldown) {
    outliers.detector.coolDown(attempt.watched, attempt.pushbackMs, nowMs);
    outliers.wake(nowMs);
  }
  if (verdict.outcome === 'failure') observeFailure(attempt.endpoint, attempt.elapsedMs, nowMs);
  else if (!attempt.answered && attempt.resume === undefined && verdict.outcome === 'success') {
    observeLatency(attempt.endpoint, attempt.elapsedMs, nowMs);
    policies.recordLatency(call.info.method, attempt.elapsedMs, nowMs);
  }
  if (attempt.budgeted) {
    attempt.budgeted = false;
    policies.budget.release();
  }
  attempt.endpoint.attemptEnded(status);
  call.context.observer?.onAttemptEnd?.(call, attempt);
  if (call.trace) {
    if (outlier !== undefined) traceOutlier(call, outlier);
    call.trace.endAttempt(call, attempt);
  }
}

/** Reads the facts besides the status from an answer. */
function readInfo(attempt: Attempt, info: ResponseInfo): void {
  const never = info.pushbackMs === NEVER;
  attempt.pushbackMs = info.pushbackMs;
  if (attempt.stream === undefined || !isSidecar(attempt.stream.connection.peer)) {
    // The "never" of a plain server stops sidecars, but not the clients of the calls above.
    if (never) attempt.notAgain = NotAgain.SIDECARS;
    return;
  }
  // Only a sidecar's own fields count: any other server may have copied them from an answer that it received.
  if (info.peerReason !== '') {
    attempt.peerReason = info.peerReason;
    attempt.code = info.upstreamHttpStatus;
  }
  attempt.goingAway = info.goingAway;
  if (never) attempt.notAgain = NotAgain.EVERYBODY;
  else if (info.retriesEnded) attempt.notAgain = NotAgain.SIDECARS;
}

/**
 * Ends the running attempts, if any, and records why.
 *
 * @param comesBack nobody has given the call up: its caller, or another sidecar, may come back for the answer. A bus then
 *   keeps the task; another endpoint is cancelled all the same
 */
export function giveUp(call: GivenUpCall, kind: EndKind, status: StatusCode, comesBack = false): void {
  // A call without a circuit has no attempts.
  if (!isAdmitted(call)) return;
  const keepsTask = comesBack && call.cluster.settings.bus !== undefined;
  const code = keepsTask ? ATTEMPT_COMES_BACK : ErrorCode.CANCEL;
  const { attempt, tries } = call;
  const { hedging } = tries;
  if (hedging !== undefined) {
    hedging.stop();
    for (const running of hedging.attempts) end(call, running, kind, status, code);
  }
  if (attempt !== undefined) end(call, attempt, kind, status, code);
}

function end(call: SettledCall, attempt: Attempt, kind: EndKind, status: StatusCode, code: number): void {
  if (attempt.ended) return;
  attempt.cancel(code);
  settleAttempt(call, attempt, kind, status, 0, undefined);
}

/** The call is over: settles its circuit by the attempt that decided it. */
export function settleCircuit(
  call: CallWith<'cluster' | 'circuit' | 'attempt' | 'tries' | 'context' | 'info' | 'trace'>,
): void {
  if (!isAdmitted(call)) return;
  const { circuit, cluster, attempt } = call;
  const nowMs = call.context.clock();
  reportCircuit(
    call,
    attempt === undefined
      ? circuit.giveBack(nowMs)
      : circuit.settle(attempt, call.tries.severalEndpointsFailed, cluster, nowMs),
  );
}

/** Reports that this call changed the circuit's state; does nothing when `transition` is undefined. */
export function reportCircuit(
  call: PlacedFacts & CallWith<'context' | 'info' | 'trace'>,
  transition: CircuitTransition | undefined,
): void {
  if (transition === undefined) return;
  const cluster = call.cluster;
  if (call.trace) traceCircuit(call, transition);
  call.context.events.onCircuit(cluster, call.info.method, transition);
  // Without calls nothing else would notice that an endpoint is back.
  if (transition.to === 'open' && transition.unreachable) cluster.returns.wake();
}

function ejectedAtMs({ watched }: Attempt): number {
  return watched.ejected ? watched.ejectedAtMs : 0;
}
