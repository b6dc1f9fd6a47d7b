/** Leads a call through its layers and decides what follows each event. */
import type { CallKey } from '../cluster/balancer/balancer.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { describeRejection } from '../policy/circuit-state.ts';
import { isTimeUp, timeLeftMs } from '../policy/deadline.ts';
import { NotAgain } from '../policy/pushback.ts';
import type { GiveUpReason } from '../policy/retry.ts';
import { mayRetryTransparently } from '../policy/transparent-retry.ts';
import { OutcomeScanner } from '../task/outcome-scanner.ts';
import { isTaskPath, PROCESS_TASK_PATH } from '../task/task-message.ts';
import type { Attempt, AttemptFailure } from './attempt.ts';
import { AttemptClock } from './attempt-clock.ts';
import { type AdmittedCall, Call, type PlacedCall } from './call.ts';
import type { CallDriver } from './call-driver.ts';
import { beginTrace, traceRetry } from './call-tracing.ts';
import { CircuitTicket } from './circuit-ticket.ts';
import type { ClusterWithPolicies } from './cluster-policies.ts';
import { replyToUnreadable } from './compressed-request.ts';
import type { ProxyContext } from './context.ts';
import {
  isOverflow,
  lastAnswer,
  noEndpoint,
  OVERLOADED_PUSHBACK_MS,
  replyToFailure,
  tooLittleTime,
} from './failure-reply.ts';
import { hedgingOf } from './hedging.ts';
import { modelFailureBehind } from './model-failures.ts';
import { replyToOversizeRequest } from './oversize.ts';
import {
  checkPath,
  findOwner,
  findTaskOwner,
  forbidOwnersRetries,
  forbidRetries,
  nameOutboundPath,
} from './ownership.ts';
import { reply, replyToCaller } from './reasons.ts';
import { requestInfo } from './request-info.ts';
import { fillKey, RetryWait, retryCallOf } from './retrying.ts';
import type { Route } from './router.ts';
import { tellCircuit } from './settlement.ts';
import { beginTask, needsTask, runsOnce } from './task-runs.ts';

/**
 * The layers that a call passes, outermost first, each by the method that enters it:
 *
 *     acceptRequest ─▶ route ─▶ onFirstMessage ─▶ begin ─▶ admit ─▶ onAdmitted ─▶ passCircuit ─▶ firstAttempt
 *     ─▶ pick ─▶ attempt
 *
 * On the way back the call receives the attempt's end (`AttemptOwner`) and `settlement.ts` judges it. Then
 * `onAttemptFailed` or `retries` starts another attempt, at once or by `onRetryDue`, or the call is answered
 * (`Call.answer`). `docs/life-of-a-call.md` has the same methods in the same order.
 */
export class Pipeline implements CallDriver<Call> {
  private readonly context: ProxyContext;
  private readonly key: CallKey<Endpoint> = { hash: 0, avoid: undefined };

  constructor(context: ProxyContext) {
    this.context = context;
  }

  /** A request arrived on a downstream connection. */
  acceptRequest(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    const { context } = this;
    if (context.localServices?.serve(stream, list, head, endStream) === true) return;
    const info = requestInfo(list, head);
    const call = new Call(context, this, stream, list, head, info, endStream);
    stream.handler = call;
    if (list.oversize) {
      // Its head was not decoded completely, because its caller holds too much already.
      if (stream.connection.held.overdrawn) call.onNoRoom(stream);
      else call.answer(replyToOversizeRequest(call, list));
      return;
    }
    if (info.timeoutMalformed) {
      call.answer(
        replyToCaller('bad_request', 'grpc-timeout is malformed; send 1 to 8 digits and one of H M S m u n'),
      );
      return;
    }
    if (head.method === 'CONNECT') {
      call.answer(replyToCaller('bad_request', 'CONNECT is not served here; send gRPC calls'));
      return;
    }
    this.route(call);
  }

  private route(call: Call): void {
    const route = this.routeOf(call);
    const tasks = call.info.grpc && isTaskPath(call.info.method);
    if (tasks && !checkPath(call)) return;
    findOwner(call);
    const needsMessage = route.needsMessage || (tasks && needsTask(call));
    if (needsMessage && call.info.grpc && !call.request.ended) {
      call.limitTime(call.settings.timeLimits);
      call.progress.awaitMessage();
      return;
    }
    if (tasks) findTaskOwner(call);
    this.admit(call, route);
  }

  /** Looks the route up once for each head that a connection repeats, and again after a reload. */
  private routeOf(call: Call): Route {
    const { router } = this.context;
    const { info } = call;
    if (info.routedBy !== router) {
      info.route = router.route(call.list, call.head);
      info.routedBy = router;
    }
    return info.route!;
  }

  /** More of the request arrived: checks whether the first message is complete. */
  onFirstMessage(call: Call): void {
    const { request } = call;
    const tasks = isTaskPath(call.info.method);
    // The whole request identifies a task; for these methods that is one message. For other methods, and for large
    // messages, the first message or its beginning suffices: ids and types precede the input that makes a message
    // large.
    const waits = !request.hasEnough && tasks && runsOnce(call);
    const found = waits ? undefined : call.readTask(request.hasEnough);
    // The first bytes of a compressed message may be unreadable: then wait for more of them.
    if (!request.hasEnough && (found === undefined || found.unreadable === 'unfinished')) {
      heldRequests.moved(call.stream);
      return;
    }
    const route = this.routeOf(call);
    if (found?.unreadable !== undefined && route.byAgentType.length > 0) {
      // The agent it is for is unknown, and any other agent would be wrong.
      call.answer(replyToUnreadable(found, call.info.encoding));
      return;
    }
    call.progress.onMessage();
    if (tasks) findTaskOwner(call);
    this.begin(call, found);
    // If the call waits here now, its wait has only just begun.
    heldRequests.moved(call.stream);
  }

  onRunAgain(call: Call): void {
    this.begin(call, call.readTask(true));
  }

  /** The first message arrived, as far as it will be read. */
  private begin(call: Call, message: ReturnType<Call['readTask']>): void {
    if (isTaskPath(call.info.method) && !beginTask(call, message)) return;
    // Route again instead of using the early route: a reload may have closed its cluster since.
    this.admit(call, this.routeOf(call));
  }

  private admit(call: Call, route: Route): void {
    const agentType = call.task?.agentType ?? '';
    const { context } = this;
    beginTrace(call);
    const cluster = route.resolve(agentType);
    if (cluster === undefined) {
      const what =
        agentType === ''
          ? `${call.head.authority}${call.info.method}`
          : `agent_type ${JSON.stringify(agentType)}`;
      call.answer(reply('no_route', `no route for ${what}: ${context.router.hint}`));
      return;
    }
    const { limits } = cluster.settings;
    const inFlight = cluster.activeCalls++;
    const placed = placedIn(call, cluster);
    if (inFlight >= limits.maxConcurrentCalls) {
      const message = `cluster ${cluster.name} has ${inFlight} calls in flight (limits.max_concurrent_calls)`;
      call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
      return;
    }
    call.limitTime(cluster.policies.settings);
    const entry = context.admission?.enter(placed, context.clock()) ?? 'admitted';
    if (typeof entry === 'object') {
      call.answer(entry);
      return;
    }
    if (entry === 'admitted') this.onAdmitted(placed);
  }

  onAdmitted(call: PlacedCall): void {
    if (isTaskPath(call.info.method)) nameOutboundPath(call);
    const { listener, inboundCalls, settings } = this.context;
    if (listener === 'inbound') inboundCalls.add(call, settings.namesCalls && call.info.grpc);
    const admitted = this.passCircuit(call);
    if (admitted !== undefined) this.firstAttempt(admitted);
  }

  /** Asks the circuit of the call's cluster and method. Undefined: it is open, and the call was answered. */
  private passCircuit(call: PlacedCall): AdmittedCall | undefined {
    const nowMs = this.context.clock();
    const policies = call.cluster.policies;
    const breaker = policies.breakers.of(call.info.method);
    if (breaker.state !== 'closed') tellCircuit(call, breaker.tick(nowMs));
    const admission = breaker.admit(nowMs);
    if (typeof admission !== 'number') {
      const name = call.cluster.name;
      forbidRetries(call, NotAgain.SIDECARS);
      const why = `cluster ${name}: ${describeRejection(admission)}`;
      const modelFailure = modelFailureBehind(breaker);
      call.answer({ ...reply('circuit_open', why, admission.retryAfterMs), modelFailure });
      return undefined;
    }
    policies.budget.countCall(nowMs);
    return letIn(call, new CircuitTicket(breaker, admission));
  }

  /** Picks an endpoint for the call's first attempt. */
  private firstAttempt(call: AdmittedCall): void {
    const nowMs = this.context.clock();
    const leftMs = timeLeftMs(call.clock.deadlineMs, nowMs);
    if (isTimeUp(leftMs)) {
      call.onTimeout(nowMs);
      return;
    }
    const neededMs = call.cluster.policies.hopelessBelowMs(call.info.method, leftMs);
    if (neededMs > 0) {
      call.answer(tooLittleTime(call, neededMs, nowMs));
      return;
    }
    const endpoint = this.pick(call, undefined, nowMs);
    if (endpoint !== undefined) {
      call.tries.hedgeBy(hedgingOf(call));
      this.attempt(call, endpoint, nowMs);
    } else if (call.cluster.resolving) this.awaitEndpoints(call);
    else this.nobodyThere(call);
  }

  private nobodyThere(call: AdmittedCall): void {
    forbidOwnersRetries(call);
    call.answer(call.tries.lastFailure === undefined ? noEndpoint(call) : lastAnswer(call));
  }

  /** Waits for the first look-up of a cluster that a start or a reload has just created. */
  private awaitEndpoints(call: AdmittedCall): void {
    const waits = call.cluster.whenResolved(() => {
      if (!call.progress.isDone) this.firstAttempt(call);
    });
    if (waits) return;
    const message = `enough calls wait for the endpoints of cluster ${call.cluster.name} (limits.max_pending_calls)`;
    call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
  }

  private pick(call: AdmittedCall, avoid: Endpoint | undefined, nowMs: number): Endpoint | undefined {
    return call.cluster.pick(fillKey(this.key, call, avoid), nowMs);
  }

  private attempt(
    call: AdmittedCall,
    endpoint: Endpoint,
    nowMs: number,
    budgeted = false,
    hedge = false,
  ): void {
    call.progress.attempt();
    const attempt = call.tries.begin(call, endpoint, nowMs);
    const { settings } = call.cluster.policies;
    attempt.streaming = call.info.kind !== 'unary';
    attempt.budgeted = budgeted;
    attempt.hedge = hedge;
    if (settings.task.statusIsVerdict && call.info.method === PROCESS_TASK_PATH)
      attempt.scanner = new OutcomeScanner();
    call.tries.hedging?.add(attempt, nowMs);
    const { outliers } = call.cluster;
    outliers.detector.begin(attempt, nowMs);
    outliers.wake(nowMs);
    const { perTryTimeoutMs } = settings.retry;
    if (perTryTimeoutMs > 0 || settings.firstChunkTimeoutMs > 0) {
      attempt.clock = new AttemptClock(attempt, this.context.wheel);
      attempt.clock.start(perTryTimeoutMs, settings.firstChunkTimeoutMs, nowMs);
    }
    call.clock.onMovement();
    attempt.start();
  }

  /** Starts one more attempt, at an endpoint that runs none of this call's. */
  hedge(call: AdmittedCall, running: readonly Attempt[], nowMs: number): boolean {
    const endpoint = this.pick(call, running[0]!.endpoint, nowMs);
    if (endpoint === undefined || running.some((attempt) => attempt.endpoint === endpoint)) return false;
    this.attempt(call, endpoint, nowMs, true, true);
    return true;
  }

  /** Whether a call whose attempt was provably not processed may be sent again at once. */
  private mayGoOn(call: AdmittedCall, limitLowered: boolean, nowMs: number): boolean {
    return mayRetryTransparently({
      unprocessed: !mayRunElsewhere(call),
      responseStarted: call.progress.isAnswering,
      requestWhole: call.request.whole,
      attempts: call.attempts,
      endpoints: call.cluster.endpoints.length,
      timeLeftMs: timeLeftMs(call.clock.deadlineMs, nowMs),
      limitLowered,
    });
  }

  mayMove(call: AdmittedCall, attempt: Attempt): boolean {
    if (call.cluster.roomyBeside(attempt.endpoint, undefined) === undefined) return false;
    return this.mayGoOn(call, false, this.context.clock());
  }

  onAttemptFailed(call: AdmittedCall, attempt: Attempt, failure: AttemptFailure): void {
    const cluster = call.cluster;
    const nowMs = this.context.clock();
    if (call.tries.hedging?.dropped(attempt, nowMs) === true) return;
    const retry =
      failure.unprocessed && !isOverflow(failure) && this.mayGoOn(call, attempt.limitLowered, nowMs);
    const endpoint = retry ? this.pick(call, attempt.endpoint, nowMs) : undefined;
    if (endpoint !== undefined) {
      cluster.count(cluster.retries, 'retried');
      call.tries.countTransparent();
      this.attempt(call, endpoint, nowMs);
    } else {
      call.tries.fail(replyToFailure(call, attempt, failure));
      // A queue that is full now stays full for the next attempt.
      if (isOverflow(failure) || !this.retries(call, attempt)) call.answer(lastAnswer(call));
    }
  }

  /** Asks the retry policy. A refusal is counted by its reason, and reported to the hops above when it is final. */
  retries(call: AdmittedCall, attempt: Attempt): boolean {
    if (call.progress.isAnswering) return false;
    const { context } = this;
    const nowMs = context.clock();
    const cluster = call.cluster;
    const policy = cluster.policies.retry;
    if (
      call.tries.hedging !== undefined &&
      policy.mayFollow(attempt) &&
      call.tries.hedging.dropped(attempt, nowMs)
    )
      return true;
    call.tries.noteOutcome(attempt);
    const retryCall = retryCallOf(call, attempt, nowMs);
    // No endpoint is reachable, and a wait would only cost the caller time.
    if (retryCall.otherEndpoints === 0 && !retryCall.sameReachable) {
      forbidOwnersRetries(call);
      return false;
    }
    const decision = policy.next(attempt, retryCall, nowMs, context.random());
    if (call.trace) traceRetry(call, decision);
    if (!decision.again) {
      forbidRetries(call, decision.notAgain);
      const outcome = COUNTED_REASONS[decision.reason];
      if (outcome !== undefined) cluster.count(cluster.retries, outcome);
      return false;
    }
    const wait = new RetryWait(call, attempt, decision.target === 'same');
    call.tries.wait(wait, decision.backoffStep);
    wait.start(decision.afterMs);
    return true;
  }

  /** The back-off is over. */
  onRetryDue(call: AdmittedCall, failed: Attempt, sameEndpoint: boolean): void {
    const nowMs = this.context.clock();
    const same = sameEndpoint && !failed.endpoint.removed ? failed.endpoint : undefined;
    const endpoint = same ?? this.pick(call, failed.endpoint, nowMs) ?? this.pick(call, undefined, nowMs);
    if (endpoint === undefined) {
      call.cluster.policies.budget.release();
      this.nobodyThere(call);
      return;
    }
    const cluster = call.cluster;
    cluster.count(cluster.retries, 'retried');
    if (endpoint !== failed.endpoint) call.tries.changeEndpoint();
    this.attempt(call, endpoint, nowMs, true);
  }
}

/** Whether an earlier attempt may be running the task. Only its own endpoint may get the call then, or it would run twice. */
function mayRunElsewhere(call: AdmittedCall): boolean {
  return call.tries.unknownBefore && !call.cluster.policies.retry.isIdempotent(call.info.method);
}

function placedIn(call: Call, cluster: ClusterWithPolicies): PlacedCall {
  call.cluster = cluster;
  return call as PlacedCall;
}

function letIn(call: PlacedCall, circuit: CircuitTicket): AdmittedCall {
  call.circuit = circuit;
  return call as AdmittedCall;
}

/** The reasons for which `outrigger_retries_total` counts a retry that was not made. */
const COUNTED_REASONS: Partial<Record<GiveUpReason, string>> = {
  budget_exhausted: 'budget_exhausted',
  not_safe: 'not_safe',
  deadline: 'deadline',
};
