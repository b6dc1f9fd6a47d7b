import { type CallKey, hashKey } from '../cluster/balancer.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { SHORTEST_TIMEOUT_MS } from '../grpc/timeout.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { mayRetryTransparently } from '../policy/transparent-retry.ts';
import { readTaskKey } from '../task/task-message.ts';
import { Attempt, type AttemptFailure, statusOfFailure } from './attempt.ts';
import { Call, type CallDriver } from './call.ts';
import type { ProxyContext } from './context.ts';
import { type LocalReply, reply } from './reasons.ts';
import { requestInfo } from './request-info.ts';
import type { Route } from './router.ts';

/** The first message is waited for up to this size; a larger one is routed by what its first bytes say. */
const FIRST_MESSAGE_MAX_BYTES = 65_536;
/** For a call that does not say how long it may take, while its cluster is not known yet. */
const ROUTING_TIMEOUT_MS = 60_000;
/** What an overloaded listener asks callers to wait. */
const OVERLOADED_PUSHBACK_MS = 1_000;

/**
 * The layers a call goes through, outermost first:
 *
 *     accept → route → admit → breaker → retry → hedge → pick → attempt
 *
 * Circuit breaker, retry policy and hedge have their places here: the breaker between `admit` and the first
 * `pick`, the others in `onAttemptFailed`. Now only what was provably not processed is tried again.
 */
export class Pipeline implements CallDriver {
  private readonly context: ProxyContext;
  private readonly key: CallKey = { hash: 0, avoid: undefined };

  constructor(context: ProxyContext) {
    this.context = context;
  }

  /** A request came in on a downstream connection. */
  accept(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    const { context } = this;
    if (context.localServices?.serve(stream, list, head, endStream) === true) return;
    const info = requestInfo(list, head);
    const call = new Call(context, this, stream, list, head, info, endStream);
    stream.handler = call;
    if (list.oversize) {
      call.answer(
        reply(
          'headers_too_large',
          `the request's header fields have ${list.listBytes} bytes; send fewer or shorter metadata`,
        ),
      );
      return;
    }
    if (info.timeoutMalformed) {
      call.answer(
        reply('bad_request', 'grpc-timeout is malformed; send 1 to 8 digits and one of H M S m u n'),
      );
      return;
    }
    if (head.method === 'CONNECT') {
      call.answer(reply('bad_request', 'CONNECT is not served here; send gRPC calls'));
      return;
    }
    this.route(call);
  }

  private route(call: Call): void {
    const route = this.routeOf(call);
    if (route.needsMessage && call.info.grpc && !call.requestComplete) {
      call.awaitingMessage = true;
      call.limitTime(call.settings.timeoutMs || ROUTING_TIMEOUT_MS);
      return;
    }
    this.admit(call, route, '');
  }

  /** Looked up once for each head that a connection repeats, and anew behind a reload. */
  private routeOf(call: Call): Route {
    const { router } = this.context;
    const { info } = call;
    if (info.routedBy !== router) {
      info.route = router.route(call.list, call.head);
      info.routedBy = router;
    }
    return info.route!;
  }

  /** More of the request is here: is the first message whole? */
  onFirstMessage(call: Call): void {
    const { request } = call;
    // Ids and types stand at a message's beginning, before the input that makes it large.
    const enough = call.requestComplete || request.bytes >= FIRST_MESSAGE_MAX_BYTES;
    const found = request.firstMessage(enough);
    if (found === undefined && !enough) return;
    if (found !== undefined) call.task = readTaskKey(found.buffer, found.start, found.end);
    call.awaitingMessage = false;
    // Not the route of its beginning: a reload may have closed that one's cluster since.
    this.admit(call, this.routeOf(call), call.task?.agentType ?? '');
  }

  private admit(call: Call, route: Route, agentType: string): void {
    const { context } = this;
    const cluster = route.resolve(agentType);
    if (cluster === undefined) {
      const what =
        agentType === ''
          ? `${call.head.authority}${call.head.path}`
          : `agent_type ${JSON.stringify(agentType)}`;
      call.answer(reply('no_route', `no route for ${what}: ${context.router.hint}`));
      return;
    }
    if (!context.admission.tryAcquire()) {
      const message = `${context.admission.max} calls are in flight, which is this listener's limit`;
      call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
      return;
    }
    call.admitted = true;
    const { limits, timeoutMs } = cluster.settings;
    if (cluster.activeCalls >= limits.maxConcurrentCalls) {
      const message = `cluster ${cluster.name} has ${cluster.activeCalls} calls in flight (limits.max_concurrent_calls)`;
      call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
      return;
    }
    cluster.activeCalls++;
    call.cluster = cluster;
    call.limitTime(call.settings.timeoutMs || timeoutMs);
    this.firstAttempt(call);
  }

  /** Picks an endpoint for the call's first attempt. */
  private firstAttempt(call: Call): void {
    const nowMs = this.context.clock();
    // What the header can say at least is no time to do anything in.
    if (call.timeLeftMs(nowMs) <= SHORTEST_TIMEOUT_MS) {
      call.onTimeout(nowMs);
      return;
    }
    const endpoint = this.pick(call, undefined, nowMs);
    if (endpoint !== undefined) this.attempt(call, endpoint, nowMs);
    else if (call.cluster!.resolving) this.awaitEndpoints(call);
    else call.answer(noEndpoint(call));
  }

  /** A cluster that a start or a reload has just made: its first look-up is under way. */
  private awaitEndpoints(call: Call): void {
    const waits = call.cluster!.whenResolved(() => {
      if (!call.done) this.firstAttempt(call);
    });
    if (waits) return;
    const message = `enough calls wait for the endpoints of cluster ${call.cluster!.name} (limits.max_pending_calls)`;
    call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
  }

  private pick(call: Call, avoid: Endpoint | undefined, nowMs: number): Endpoint | undefined {
    const { key } = this;
    key.hash = call.task === undefined || call.task.taskId === '' ? 0 : hashKey(call.task.taskId);
    key.avoid = avoid;
    return call.cluster!.pick(key, nowMs);
  }

  private attempt(call: Call, endpoint: Endpoint, nowMs: number): void {
    call.attempts++;
    call.attempt = new Attempt(call, endpoint, call.attempts, nowMs);
    call.attempt.start();
  }

  onAttemptFailed(call: Call, attempt: Attempt, failure: AttemptFailure): void {
    const cluster = call.cluster!;
    const nowMs = this.context.clock();
    const retry = mayRetryTransparently({
      unprocessed: failure.unprocessed && !isOverflow(failure),
      responseStarted: call.responseStarted,
      requestWhole: call.replayable,
      attempts: call.attempts,
      endpoints: cluster.endpoints.length,
      timeLeftMs: call.timeLeftMs(nowMs),
    });
    const endpoint = retry ? this.pick(call, attempt.endpoint, nowMs) : undefined;
    if (endpoint === undefined) {
      call.answer(replyToFailure(attempt, failure));
      return;
    }
    cluster.count(cluster.retries, 'retried');
    this.attempt(call, endpoint, nowMs);
  }
}

function isOverflow(failure: AttemptFailure): boolean {
  return failure.kind === 'no-connection' && failure.reason === 'pending_overflow';
}

function noEndpoint(call: Call): LocalReply {
  const { name, endpoints } = call.cluster!;
  if (endpoints.length === 0)
    return reply('no_endpoint', `cluster ${name} has no endpoints: discovery found none yet`);
  const reasons = endpoints
    .slice(0, 3)
    .map((endpoint) => `${endpoint.address}: ${endpoint.unusableBecause ?? 'just tried'}`);
  return reply('no_endpoint', `no endpoint of cluster ${name} is usable (${reasons.join('; ')})`);
}

/** What the caller is told of an attempt that failed and is not tried again. */
function replyToFailure(attempt: Attempt, failure: AttemptFailure): LocalReply {
  const { address } = attempt.endpoint;
  switch (failure.kind) {
    case 'no-connection':
      return failure.reason === 'pending_overflow'
        ? reply(
            'overloaded',
            `${failure.message} to ${address} (limits.max_pending_calls)`,
            OVERLOADED_PUSHBACK_MS,
          )
        : reply('connect_failed', failure.message);
    case 'goaway':
      return reply('connect_failed', `${address}: ${failure.message}`);
    case 'connection':
      return reply('stream_cut', `${address}: ${failure.message}`);
    case 'protocol':
      return reply('upstream_protocol', `${address} broke HTTP/2: ${failure.message}`);
    case 'reset':
      return {
        reason: 'upstream_reset',
        status: statusOfFailure(failure),
        message: `${address}: ${failure.message}`,
      };
  }
}
