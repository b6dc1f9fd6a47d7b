/** Leads a call through its layers, outermost first. */
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { describeRejection } from '../policy/circuit-state.ts';
import { NotAgain } from '../policy/pushback.ts';
import { isTaskPath } from '../task/task-message.ts';
import { AttemptStarter } from './attempt-starter.ts';
import { type AdmittedCall, Call, type PlacedCall } from './call.ts';
import type { CallDriver } from './call-driver.ts';
import { beginTrace } from './call-tracing.ts';
import { CircuitTicket } from './circuit-ticket.ts';
import { replyToUnreadable } from './compressed-request.ts';
import type { ProxyContext } from './context.ts';
import { OVERLOADED_PUSHBACK_MS } from './failure-reply.ts';
import { modelFailureBehind } from './model-failures.ts';
import { NextAttempt } from './next-attempt.ts';
import { replyToOversizeRequest } from './oversize.ts';
import { checkPath, findOwner, findTaskOwner, forbidRetries, nameOutboundPath } from './ownership.ts';
import { reply, replyToCaller } from './reasons.ts';
import { type RequestInfo, requestInfo } from './request-info.ts';
import { serveReturn } from './resume-requests.ts';
import type { Route } from './router.ts';
import { reportCircuit } from './settlement.ts';
import { needsTaskMessage, runOrFollowTask, runsOnce } from './task-runs.ts';

/**
 * The layers that a call passes, outermost first, each by the method that enters it:
 *
 *     acceptRequest ─▶ route ─▶ onFirstMessage ─▶ begin ─▶ admit ─▶ onAdmitted ─▶ passCircuit
 *     ─▶ AttemptStarter: first ─▶ pick ─▶ start
 *
 * On the way back `CallAttempts` receives the attempt's end, and `settlement.ts` judges it. Then `NextAttempt` starts
 * another attempt, at once (`onAttemptFailed`) or after a back-off (`retries`, `onRetryDue`), or the call is answered
 * (`Call.answer`). `docs/life-of-a-call.md` has the same methods in the same order.
 */
export class Pipeline implements CallDriver<Call, AdmittedCall> {
  private readonly context: ProxyContext;
  readonly starter: AttemptStarter;
  readonly next: NextAttempt;

  constructor(context: ProxyContext) {
    this.context = context;
    this.starter = new AttemptStarter(context);
    this.next = new NextAttempt(context, this.starter);
  }

  /** A request arrived on a downstream connection. */
  acceptRequest(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    const { context } = this;
    for (const services of context.localServices) if (services.serve(stream, list, head, endStream)) return;
    const info = requestInfo(list, head);
    if ((info.resume !== '' || info.firstStream !== '') && this.resumes(stream, head, info, endStream))
      return;
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

  /** Serves a request for the rest of a stream, or for one that has begun. */
  private resumes(stream: Stream, head: MessageHead, info: RequestInfo, endStream: boolean): boolean {
    const { resumptions, settings } = this.context;
    const callerScope = info.scopeBy(settings.scopeHeaders, stream.connection.identity?.name ?? '');
    return (
      resumptions !== undefined && serveReturn(resumptions, stream, info, { callerScope, head }, endStream)
    );
  }

  private route(call: Call): void {
    const route = this.routeOf(call);
    const tasks = call.info.grpc && isTaskPath(call.info.method);
    const { needsAgentType } = this.context.callPath;
    if (tasks && !needsAgentType && !checkPath(call)) return;
    findOwner(call);
    const needsMessage = route.needsMessage || (tasks && needsTaskMessage(call));
    if (needsMessage && call.info.grpc && !call.request.ended) {
      call.limitTime(call.settings.timeLimits);
      call.progress.awaitMessage();
      return;
    }
    if (tasks && needsAgentType && !checkPath(call)) return;
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
    if (tasks && this.context.callPath.needsAgentType && !checkPath(call)) return;
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
    if (isTaskPath(call.info.method) && !runOrFollowTask(call, message)) return;
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
    const placed = call.placeIn(cluster);
    if (inFlight >= limits.maxConcurrentCalls) {
      const message = `cluster ${cluster.name} has ${inFlight} calls in flight (limits.max_concurrent_calls)`;
      call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
      return;
    }
    call.limitTime(cluster.policies.settings);
    if (context.admissions?.has(agentType) === true) call.observeTask(agentType);
    const entry = context.admissions?.enter(placed, agentType, context.clock()) ?? 'admitted';
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
    if (admitted !== undefined) this.starter.first(admitted);
  }

  /** Asks the circuit of the call's cluster and method. Undefined: it is open, and the call was answered. */
  private passCircuit(call: PlacedCall): AdmittedCall | undefined {
    const nowMs = this.context.clock();
    const policies = call.cluster.policies;
    const breaker = policies.breakers.of(call.info.method);
    if (breaker.state !== 'closed') reportCircuit(call, breaker.tick(nowMs));
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
    return call.admitBy(new CircuitTicket(breaker, admission));
  }
}
