/** The LLM egress: takes the agent's requests, and holds what they share. Loaded with the first connection. */
import { parseTokenBudget, TOKEN_BUDGET_HEADER } from '../policy/token-budget.ts';
import { clientPatienceMs, clientRetryCount } from './client-clock.ts';
import { ClientRetries, NO_EARLIER_TRIES, retryKey } from './client-retries.ts';
import type { EgressContext, EgressEnvironment, LlmRequest } from './context.ts';
import { Exchange } from './exchange.ts';
import { Flight, flightKey } from './flights.ts';
import { BodyMemory, complaintAbout, operationPath, plainHeaders, readBody, traceIdOf } from './incoming.ts';
import { LoggedSink } from './logged-sink.ts';
import { MinuteGate } from './minute-gate.ts';
import type { LlmObserver } from './observer.ts';
import { operationOf, traitsOf } from './operations.ts';
import { refuse } from './reasons.ts';
import type { RequestHeaders } from './relay.ts';
import { type DownstreamRequest, type DownstreamResponse, Reply } from './reply.ts';
import { readFacts } from './request-facts.ts';
import { textOf } from './retry-after.ts';
import type { LlmSettings } from './settings.ts';
import type { Sink } from './sink.ts';
import { TaskBudgets } from './task-budgets.ts';
import { wrongPath } from './tell-inbound.ts';
import { Upstream } from './upstream.ts';

/** The bodies of all requests under way. */
const MAX_BODY_MEMORY_BYTES = 268_435_456;
const MAX_LOGGED_BYTES = 65_536;
/** What providers' APIs use; others (TRACE, CONNECT) would tell a caller the key, or open a tunnel. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE']);
/** Ids come from the agent: longer ones are none. */
const MAX_ID_LENGTH = 256;

export class Egress {
  readonly #context: EgressContext;
  readonly #budgets = new TaskBudgets();
  readonly #memory = new BodyMemory(MAX_BODY_MEMORY_BYTES);
  readonly #running = new Set<Exchange>();
  readonly #flights = new Map<string, Flight>();
  #active = 0;
  #draining = false;

  constructor(settings: LlmSettings, environment: EgressEnvironment, observer: LlmObserver | undefined) {
    const { wheel, clock } = environment;
    this.#context = {
      ...environment,
      settings,
      upstreams: inOrder(
        settings.upstreams.map((one) => new Upstream(one, settings.circuitBreaker, environment)),
      ),
      gate: new MinuteGate(settings.limits, wheel, clock),
      clientRetries: new ClientRetries(),
      observer,
    };
  }

  get upstreams(): readonly Upstream[] {
    return this.#context.upstreams;
  }

  /** Requests that wait for the limits of a minute. */
  get waiting(): number {
    return this.#context.gate.waiting;
  }

  /** Requests that have not been answered whole. */
  get activeRequests(): number {
    return this.#active;
  }

  set observer(observer: LlmObserver | undefined) {
    this.#context.observer = observer;
  }

  /** New requests go by the new settings; an upstream that stays what it was keeps what is known of it. */
  apply(settings: LlmSettings): void {
    const context = this.#context;
    const old = new Map(context.upstreams.map((upstream) => [upstream.name, upstream]));
    const breaker = JSON.stringify(settings.circuitBreaker);
    const upstreams = settings.upstreams.map((one) => {
      const known = old.get(one.name);
      const same = known?.settings.url === one.url && JSON.stringify(known.breaker.settings) === breaker;
      if (known === undefined || !same) return new Upstream(one, settings.circuitBreaker, context);
      known.settings = one;
      old.delete(one.name);
      return known;
    });
    context.upstreams = inOrder(upstreams);
    for (const upstream of old.values()) upstream.close();
    context.settings = settings;
    context.gate.setLimits(settings.limits);
  }

  /** @param isLoopback it came to an address that only this machine has */
  accept(request: DownstreamRequest, response: DownstreamResponse, isLoopback: boolean): void {
    const { settings, stats } = this.#context;
    const reply = new Reply(response);
    const path = operationPath(request.url);
    const complaint = complaintAbout(request.headers, isLoopback);
    if (complaint !== undefined) {
      this.#turnAway(request, () => refuse(reply, 'forbidden', complaint));
    } else if (!METHODS.has(request.method ?? '')) {
      const headers = { allow: [...METHODS].join(', ') };
      const message = `the method ${request.method} is not passed on`;
      this.#turnAway(request, () => refuse(reply, 'method_not_allowed', message, { headers }));
    } else if (path === undefined) {
      const message =
        'the path must begin with /v1/ and stay below it: set OPENAI_BASE_URL to http://HOST:PORT/v1';
      this.#context.inboundCalls
        ?.find(plainHeaders(request.headers))
        ?.modelEnded?.(wrongPath(request.url ?? '', message));
      this.#turnAway(request, () => refuse(reply, 'no_route', message));
    } else if (this.#draining) {
      this.#turnAway(request, () => refuse(reply, 'draining', 'the sidecar is shutting down'));
    } else if (this.#active >= settings.limits.maxConcurrentRequests) {
      const message = `${this.#active} requests are under way already (llm.limits.max_concurrent_requests)`;
      this.#turnAway(request, () => refuse(reply, 'overloaded', message));
    } else {
      this.#active++;
      stats.activeRequests = this.#active;
      const receivedMs = this.#context.clock();
      let heldBytes = 0;
      let over = false;
      reply.onOver = () => {
        over = true;
        this.#active--;
        stats.activeRequests = this.#active;
        this.#memory.release(heldBytes);
        reply.onOver = () => {};
      };
      readBody(request, reply, this.#memory, settings.limits.maxRequestBytes, (body) => {
        heldBytes = body.length;
        if (over) this.#memory.release(heldBytes);
        if (over || reply.gone) return;
        this.#serve(this.#read(request, path, body, receivedMs), reply);
      });
    }
  }

  #turnAway(request: DownstreamRequest, answer: () => void): void {
    this.#context.stats.of('', '').countOutcome('rejected');
    request.on('error', () => {});
    request.resume();
    answer();
  }

  #read(request: DownstreamRequest, path: string, body: Buffer, receivedMs: number): LlmRequest {
    const method = request.method ?? 'GET';
    const headers = plainHeaders(request.headers);
    const facts = readFacts(operationOf(method, path.split('?', 1)[0]!), body);
    const inbound = this.#context.inboundCalls?.find(headers);
    const taskId = idOf(headers['x-task-id']) ?? inbound?.taskId ?? '';
    const traceId = traceIdOf(headers);
    const retryCount = clientRetryCount(headers);
    const read: LlmRequest = {
      method,
      path,
      headers,
      body,
      facts,
      receivedMs,
      clientAtMs: receivedMs + clientPatienceMs(headers),
      retryCount,
      earlier:
        retryCount === undefined || retryCount === 0
          ? NO_EARLIER_TRIES
          : this.#context.clientRetries.take(
              retryKey({ method, path, headers, body }),
              retryCount,
              receivedMs,
            ),
      caller: taskId || (traceId ?? ''),
      inbound,
      taskId,
      budget: traitsOf(facts.operation).isCounted
        ? (inbound?.budget ?? this.#budgetOf(taskId || (traceId ?? ''), headers))
        : undefined,
    };
    if (this.#context.settings.logBodies) this.#context.logBody('request', logged(body));
    return read;
  }

  /** The smaller of what the configuration and the request's own header say. */
  #budgetOf(task: string, headers: RequestHeaders) {
    const own = this.#context.settings.limits.tokensPerTask || Number.POSITIVE_INFINITY;
    const given = parseTokenBudget(textOf(headers[TOKEN_BUDGET_HEADER]) ?? '');
    const total = given < 0 ? own : Math.min(own, given);
    return Number.isFinite(total) ? this.#budgets.of(task, total) : undefined;
  }

  #serve(request: LlmRequest, reply: Reply): void {
    const key = flightKey(request, this.#context.settings.singleFlight);
    if (key === undefined) {
      const exchange = this.#exchange(request, reply, () => {});
      reply.onGone = () => exchange.cancel();
      exchange.start();
      return;
    }
    const running = this.#flights.get(key);
    if (running !== undefined) {
      if (running.join(reply)) return;
      const message = 'the same request is under way, and too much of its answer has gone by to join it';
      refuse(reply, 'in_flight', message);
      return;
    }
    const flight = new Flight();
    flight.join(reply);
    const exchange = this.#exchange(request, flight, () => this.#flights.delete(key));
    flight.onEmpty = () => exchange.cancel();
    this.#flights.set(key, flight);
    exchange.start();
  }

  #exchange(request: LlmRequest, to: Sink, onOver: () => void): Exchange {
    const { settings, logBody } = this.#context;
    const sink = settings.logBodies
      ? new LoggedSink(to, MAX_LOGGED_BYTES, (body) => logBody('answer', body))
      : to;
    const exchange = new Exchange(this.#context, request, sink, (over) => {
      this.#running.delete(over);
      onOver();
    });
    this.#running.add(exchange);
    return exchange;
  }

  /** New requests are refused from now on; those under way go on. */
  drain(): void {
    this.#draining = true;
  }

  /** The time to drain is over. */
  endRequests(): void {
    for (const exchange of [...this.#running]) exchange.endForDrain();
  }

  close(): void {
    this.#draining = true;
    this.endRequests();
    this.#context.gate.close();
    for (const upstream of this.#context.upstreams) upstream.close();
  }
}

function inOrder(upstreams: readonly Upstream[]): readonly Upstream[] {
  upstreams.forEach((upstream, index) => {
    upstream.isFirst = index === 0;
  });
  return upstreams;
}

function idOf(value: string | string[] | undefined): string | undefined {
  const text = textOf(value);
  return text === undefined || text === '' || text.length > MAX_ID_LENGTH ? undefined : text;
}

function logged(body: Buffer): string {
  return body.toString('utf8', 0, MAX_LOGGED_BYTES);
}
