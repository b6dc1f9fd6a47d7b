// Traces of calls and model requests, and the trace context that goes upstream.
import t from 'tap';
import { Status } from '../../grpc/status.ts';
import { HpackDecoder } from '../../http2/hpack/decoder.ts';
import { VERDICTS } from '../../policy/verdicts.ts';
import type { ObservedAttempt } from '../../proxy/observed-call.ts';
import { IdSource, spanIdText } from '../../telemetry/ids.ts';
import { formatTraceparent, parseTraceparent, spanIdOf, traceIdOf } from '../../telemetry/trace-context.ts';
import type { Propagator } from '../../telemetry/tracing/propagators.ts';
import { samplerFromEnvironment } from '../../telemetry/tracing/sampler.ts';
import type { Attributes, Span } from '../../telemetry/tracing/span.ts';
import { attemptWith, type CallChanges, callWith } from '../test-support/observed-call.ts';
import type { RecordedCall } from './recorded-call.ts';
import { Tracer } from './tracer.ts';

const parent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const unsampled = parent.replace(/01$/, '00');

const outboundContext = { listener: 'outbound', name: 'research-agent', clock: () => 0 } as const;

const idOf = ({ spanHigh, spanLow }: Span): string => spanIdText(spanHigh, spanLow);
const parentOf = ({ parentHigh, parentLow }: Span): string => spanIdText(parentHigh, parentLow);

function asObject(...lists: Attributes[]): Record<string, unknown> {
  const object: Record<string, unknown> = {};
  for (const list of lists) for (let i = 0; i < list.length; i += 2) object[String(list[i])] = list[i + 1];
  return object;
}

function setUp(
  sampler = 'parentbased_always_on',
  argument?: string,
  propagators: readonly Propagator[] = ['tracecontext'],
) {
  const spans: Span[] = [];
  const settings = {
    sampler: samplerFromEnvironment(sampler, argument, (message) => t.fail(message)),
    propagators,
  };
  // A sink must keep no reference to a span, so this one copies it.
  const tracer = new Tracer(
    settings,
    { add: (span) => void spans.push({ ...span }) },
    '2.0.0',
    new IdSource(),
  );
  /** Takes a call through the tracer as the proxy does. */
  const begin = (changes?: CallChanges) => {
    const call = callWith(changes);
    call.trace = tracer.begin(call);
    return { call, trace: call.trace as RecordedCall, fields: fieldsOf(tracer.fieldsFor(call, 1)) };
  };
  return { tracer, spans, begin };
}

/** The fields as the next hop reads them. */
function fieldsOf(encoded: Buffer | undefined): Record<string, string> | undefined {
  if (encoded === undefined) return undefined;
  const decoder = new HpackDecoder({ maxTableBytes: 0, maxListBytes: 10_000 });
  const { fields } = decoder.decode(encoded, 0, encoded.length)!;
  return asObject(fields) as Record<string, string>;
}

t.test('a call continues the trace in its headers', async (t) => {
  const { begin } = setUp();
  const { trace, fields } = begin({ info: { traceparent: parent, tracestate: 'congo=1' } });
  t.equal(trace.traceId, traceIdOf(parent));
  t.equal(parentOf(trace), spanIdOf(parent));
  t.ok(trace.parentIsRemote);
  t.strictSame(fields, {
    traceparent: formatTraceparent(trace.traceId, trace.spanId, true),
    tracestate: 'congo=1',
  });
});

t.test('an unsampled context passes unchanged, without a trace object', async (t) => {
  const { begin } = setUp();
  const { trace, fields } = begin({ info: { traceparent: unsampled, tracestate: 'congo=1' } });
  t.equal(trace, null);
  t.equal(fields, undefined);
});

t.test('a sampler that does not follow the parent clears the flag for later hops', async (t) => {
  const { begin } = setUp('always_off');
  const { trace, fields } = begin({ info: { traceparent: parent, tracestate: 'congo=1' } });
  t.equal(trace, null);
  t.strictSame(fields, { traceparent: unsampled, tracestate: 'congo=1' });
});

t.test('a new unsampled trace forwards its decision', async (t) => {
  const { begin } = setUp('parentbased_always_off');
  const { trace, fields } = begin();
  t.equal(trace, null);
  t.equal(parseTraceparent(fields!['traceparent']!), 0);
  const { tracer } = setUp('parentbased_always_off');
  const seen = new Set<string>();
  for (let i = 0; i < 1_000; i++) {
    const traceparent = fieldsOf(tracer.fieldsFor(callWith({ trace: null }), 1))!['traceparent']!;
    if (parseTraceparent(traceparent) !== 0) t.fail(traceparent);
    seen.add(traceIdOf(traceparent)).add(spanIdOf(traceparent));
  }
  t.equal(seen.size, 2_000, 'each call has its own ids');
});

t.test('health checks begin no trace, but continue one', async (t) => {
  const { begin } = setUp();
  for (const path of ['/grpc.health.v1.Health/Watch', '/agent.AgentService/HealthCheck']) {
    const head = { path, authority: 'a', method: 'POST' };
    t.equal(begin({ head }).trace, null);
    t.equal(begin({ head, info: { traceparent: parent } }).trace.traceId, traceIdOf(parent));
  }
});

t.test('after a malformed traceparent a new trace begins, without its tracestate', async (t) => {
  const { begin } = setUp();
  const { trace, fields } = begin({ info: { traceparent: parent.toUpperCase(), tracestate: 'congo=1' } });
  t.not(trace.traceId, traceIdOf(parent));
  t.equal(parentOf(trace), '0'.repeat(16));
  t.strictSame(Object.keys(fields!), ['traceparent']);
});

t.test('a malformed tracestate is dropped, and the trace continues', async (t) => {
  const { begin } = setUp();
  const { trace, fields } = begin({ info: { traceparent: parent, tracestate: 'no state' } });
  t.equal(trace.traceId, traceIdOf(parent));
  t.strictSame(Object.keys(fields!), ['traceparent']);
});

t.test('grpc-trace-bin is read and W3C written, and traceparent has precedence', async (t) => {
  const traceBinary = Buffer.from(`0000${traceIdOf(parent)}01${spanIdOf(parent)}0201`, 'hex').toString(
    'base64',
  );
  const { begin } = setUp();
  const { trace, fields } = begin({ info: { traceBinary } });
  t.equal(trace.traceId, traceIdOf(parent));
  t.equal(fields!['traceparent'], formatTraceparent(trace.traceId, trace.spanId, true));
  const other = parent.replace('4bf9', '5bf9');
  t.equal(begin({ info: { traceBinary, traceparent: other } }).trace.traceId, traceIdOf(other));
});

t.test('without propagation no context is read or written', async (t) => {
  const { begin } = setUp('parentbased_always_on', undefined, []);
  const { trace, fields } = begin({ info: { traceparent: unsampled } });
  t.not(trace.traceId, traceIdOf(parent));
  t.equal(fields, undefined);
});

t.test('an outbound call without a context continues the trace of its owner', async (t) => {
  const { begin } = setUp();
  const owner = begin({ info: { traceparent: parent, tracestate: 'congo=1' } }).call;
  const { trace, fields } = begin({ context: outboundContext, owner });
  t.equal(trace.traceId, traceIdOf(parent));
  t.equal(parentOf(trace), owner.trace!.spanId);
  t.notOk(trace.parentIsRemote);
  t.equal(fields!['tracestate'], 'congo=1');
  const silent = begin({ info: { traceparent: unsampled } }).call;
  t.equal(
    begin({ context: outboundContext, owner: silent }).trace,
    null,
    "the owner's decision applies, too",
  );
  const own = begin({ context: outboundContext, owner, info: { traceparent: parent.replace('4b', '5b') } });
  t.not(own.trace.traceId, owner.trace!.traceId, "the call's own context has precedence");
});

t.test('a call has one CLIENT span, with a span for each attempt below it', async (t) => {
  const { begin, spans, tracer } = setUp();
  const { call, trace } = begin({ context: outboundContext, info: { traceparent: parent } });
  const upstream: string[] = [];
  const run = (attempt: ObservedAttempt): void => {
    call.attempt = attempt;
    upstream.push(spanIdOf(fieldsOf(tracer.fieldsFor(call, call.attempt!.number))!['traceparent']!));
    trace.endAttempt(call, attempt);
  };
  run(attemptWith({ status: Status.UNAVAILABLE, kind: 'no_connection', verdict: VERDICTS.unavailable }));
  call.transparentRetries = 1;
  const throttled = VERDICTS.back_pressure;
  run(attemptWith({ number: 2, status: Status.RESOURCE_EXHAUSTED, verdict: throttled, pushbackMs: 50 }));
  const scanner = { seen: true, status: 1, tokensUsed: 321 };
  run(attemptWith({ number: 3, endpoint: { address: '[fd00::1]:50051' }, scanner }));
  call.attempts = 3;
  call.attempt = attemptWith({ number: 3, scanner });
  call.task = { taskId: 'task-1', correlationId: 'conversation-1' };
  trace.end(call, 130);

  t.equal(spans.length, 4);
  const [first, second, third, logical] = spans as [Span, Span, Span, Span];
  t.strictSame(upstream, [first, second, third].map(idOf), "the upstream's span is below its attempt");
  t.equal(new Set(upstream).size, 3);
  for (const attempt of [first, second, third]) {
    t.equal(parentOf(attempt), idOf(logical));
    t.equal(attempt.shape.kind, 3);
    t.equal(attempt.shape.name, 'Attempt.agent.AgentService/ProcessTask');
  }
  t.match(asObject(first.shape.attributes, first.attributes), {
    'rpc.system.name': 'grpc',
    'rpc.method': 'agent.AgentService/ProcessTask',
    'server.address': '10.0.0.7',
    'server.port': 50051,
    'outrigger.attempt.number': 1,
    'outrigger.verdict': 'failure',
    'outrigger.verdict.reason': 'unavailable',
    'outrigger.attempt.end': 'no_connection',
    'rpc.response.status_code': 'UNAVAILABLE',
    'error.type': 'UNAVAILABLE',
    'transparent-retry': false,
    'previous-rpc-attempts': 0,
  });
  t.ok(first.failed);
  t.match(asObject(second.shape.attributes), { 'transparent-retry': true, 'previous-rpc-attempts': 0 });
  t.match(second.events, [{ name: 'outrigger.throttled', attributes: ['outrigger.pushback_ms', 50] }]);
  t.match(asObject(third.shape.attributes, third.attributes), {
    'server.address': 'fd00::1',
    'transparent-retry': false,
    'previous-rpc-attempts': 1,
  });
  t.equal(third.events, undefined, 'events belong to the attempt');
  t.equal(logical.shape.kind, 3);
  t.equal(logical.shape.name, 'agent.AgentService/ProcessTask');
  t.notOk(logical.failed);
  t.strictSame(asObject(logical.shape.attributes, logical.attributes), {
    'rpc.system.name': 'grpc',
    'rpc.method': 'agent.AgentService/ProcessTask',
    'server.address': 'writing-agent',
    'server.port': 8080,
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'writing',
    'outrigger.cluster': 'writing',
    'rpc.response.status_code': 'OK',
    'outrigger.attempts': 3,
    'outrigger.task.id': 'task-1',
    'gen_ai.conversation.id': 'conversation-1',
    'outrigger.task.status': 'PARTIAL',
    'outrigger.task.tokens_used': 321,
  });
});

t.test('concurrent attempts keep their spans, in any order of beginning and end', async (t) => {
  const { tracer, spans } = setUp();
  const call = callWith({ context: outboundContext });
  const trace = tracer.begin(call)!;
  call.trace = trace;
  const upstream = new Map<number, string>();
  for (const number of [2, 1, 3, 1, 2])
    upstream.set(number, spanIdOf(fieldsOf(tracer.fieldsFor(call, number))!['traceparent']!));
  t.equal(new Set(upstream.values()).size, 3);
  for (const number of [3, 1]) {
    const verdict = VERDICTS.superseded;
    trace.endAttempt(call, attemptWith({ number, kind: 'superseded', status: Status.CANCELLED, verdict }));
  }
  trace.endAttempt(call, attemptWith({ number: 2 }));
  t.strictSame(
    spans.map(idOf),
    [3, 1, 2].map((number) => upstream.get(number)),
  );
  t.strictSame(
    spans.map(({ failed }) => failed),
    [false, false, false],
    'the losing attempt is no error',
  );
});

t.test('an inbound call has one SERVER span, and the app receives its context', async (t) => {
  const { begin, spans, tracer } = setUp();
  const observer = { taskStatus: 0, tokensUsed: 12 };
  const { call, trace } = begin({ response: { observer } });
  call.attempt = attemptWith();
  t.equal(spanIdOf(fieldsOf(tracer.fieldsFor(call, call.attempt!.number))!['traceparent']!), trace.spanId);
  trace.endAttempt(call, call.attempt);
  trace.end(call, 150);
  t.equal(spans.length, 1);
  const [span] = spans as [Span];
  t.equal(span.shape.kind, 2);
  t.strictSame([span.startedAtMs, span.endedAtMs], [100, 150]);
  t.match(asObject(span.shape.attributes, span.attributes), {
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'research-agent',
    'gen_ai.agent.version': '2.0.0',
    'outrigger.task.status': 'SUCCESS',
    'outrigger.task.tokens_used': 12,
  });
});

t.test("all codes are errors of a client span, and only the server's own of a server span", async (t) => {
  const failedWith = (status: (typeof Status)[keyof typeof Status], changes: CallChanges = {}): boolean => {
    const { begin, spans } = setUp();
    const { call, trace } = begin({ status, ...changes });
    trace.end(call, 150);
    return spans[0]!.failed;
  };
  const errors = Object.entries(Status).filter(([, code]) => failedWith(code));
  t.strictSame(errors.map(([name]) => name).sort(), [
    'DATA_LOSS',
    'DEADLINE_EXCEEDED',
    'INTERNAL',
    'UNAVAILABLE',
    'UNIMPLEMENTED',
    'UNKNOWN',
  ]);
  t.ok(failedWith(Status.NOT_FOUND, { context: outboundContext }));
  t.notOk(failedWith(Status.OK, { context: outboundContext }));
});

t.test('an answer of the sidecar has its reason; a rejection by the breaker is an event', async (t) => {
  const { begin, spans } = setUp();
  const { call, trace } = begin({
    context: outboundContext,
    status: Status.UNAVAILABLE,
    reason: 'circuit_open',
    attempts: 0,
  });
  trace.end(call, 101);
  const [span] = spans as [Span];
  t.match(asObject(span.shape.attributes, span.attributes), {
    'outrigger.reason': 'circuit_open',
    'outrigger.attempts': 0,
  });
  t.match(spans[0]!.events, [{ name: 'outrigger.circuit_rejected', atMs: 101 }]);
});

t.test('events and attempts of a call are bounded', async (t) => {
  const { begin, spans } = setUp();
  const { call, trace } = begin({ context: outboundContext });
  for (let i = 0; i < 1_000; i++) trace.event('again', i);
  for (let number = 1; number <= 1_000; number++) trace.endAttempt(call, attemptWith({ number }));
  trace.end(call, 200);
  t.equal(spans.length, 32);
  t.equal(spans.at(-1)!.events!.length, 32);
  t.equal(spans.at(-1)!.droppedEvents, 968);
});

t.test('invented paths, methods and authorities are truncated and dropped from the cache', async (t) => {
  const { begin, spans, tracer } = setUp();
  for (let i = 0; i < 2_500; i++) {
    const head = { path: `/${i}${'x'.repeat(i < 100 ? 300 : 10)}`, authority: `host${i}`, method: 'POST' };
    const { call, trace } = begin({ head });
    trace.end(call, 200);
  }
  t.equal(spans[0]!.shape.name.length, 256);
  t.ok(tracer.shapes.size <= 2_000);
  const nameOf = (changes: CallChanges): { name: string; attributes: Record<string, unknown> } => {
    const { call, trace } = begin({ context: outboundContext, ...changes });
    const attempt = attemptWith({ status: call.status as ObservedAttempt['status'] });
    trace.endAttempt(call, attempt);
    call.attempt = attempt;
    trace.end(call, 200);
    const [ofAttempt, ofCall] = spans.slice(-2) as [Span, Span];
    t.equal(ofAttempt.shape.name, `Attempt.${ofCall.shape.name}`);
    return { name: ofCall.shape.name, attributes: asObject(ofCall.shape.attributes, ofCall.attributes) };
  };
  const at = (method: string) => ({
    head: { path: '/search', authority: 'a', method },
    info: { grpc: false, method: '/search' },
  });
  t.match(nameOf(at('GET')), { name: 'HTTP GET', attributes: { 'http.request.method': 'GET' } });
  t.match(nameOf(at('POST')), { name: 'HTTP POST', attributes: { 'http.request.method': 'POST' } });
  t.match(nameOf(at('SEARCH1')), {
    name: 'HTTP',
    attributes: { 'http.request.method': '_OTHER', 'http.request.method_original': 'SEARCH1' },
  });
  const invented = { path: '/x.Y/Z', authority: 'a', method: 'POST' };
  t.match(nameOf({ head: invented, status: Status.UNIMPLEMENTED }), {
    name: '_OTHER',
    attributes: { 'rpc.method': '_OTHER', 'rpc.method_original': 'x.Y/Z' },
  });
  t.match(nameOf({ head: invented }), { name: 'x.Y/Z', attributes: { 'rpc.method_original': undefined } });
});

t.test('a model request joins the trace in its headers, or that of its owner', async (t) => {
  const { tracer, begin, spans } = setUp();
  const none = (): undefined => undefined;
  const owner = begin({ info: { traceparent: parent } }).call;
  const joined = tracer.beginModelCall(none, owner, 5)!;
  joined.event('outrigger.llm.retry', 6, ['http.response.status_code', 429]);
  joined.end(
    {
      provider: 'openai',
      server: 'api.openai.com',
      operation: 'chat',
      requestModel: 'gpt-5',
      responseModel: 'gpt-5-2026',
      responseId: 'r1',
      finishReason: 'stop',
      stream: true,
      costUsd: 0.25,
      inputTokens: 10,
      outputTokens: 0,
      firstChunkMs: 250,
      httpStatus: 200,
      attempts: 2,
      isReplayed: false,
      errorType: '',
      conversationId: 'c1',
    },
    9,
  );
  const [span] = spans as [Span];
  t.equal(span.traceId, traceIdOf(parent));
  t.equal(parentOf(span), owner.trace!.spanId);
  t.equal(span.shape.name, 'chat gpt-5');
  t.equal(span.shape.kind, 3);
  t.strictSame(asObject(span.attributes), {
    'gen_ai.operation.name': 'chat',
    'gen_ai.provider.name': 'openai',
    'gen_ai.request.model': 'gpt-5',
    'gen_ai.response.model': 'gpt-5-2026',
    'gen_ai.response.id': 'r1',
    'gen_ai.response.finish_reasons': ['stop'],
    'gen_ai.conversation.id': 'c1',
    'gen_ai.usage.input_tokens': 10,
    'outrigger.cost_usd': 0.25,
    'gen_ai.usage.output_tokens': 0,
    'gen_ai.request.stream': true,
    'gen_ai.response.time_to_first_chunk': 0.25,
    'server.address': 'api.openai.com',
    'http.response.status_code': 200,
    'outrigger.attempts': 2,
  });
  const ofHeader = tracer.beginModelCall(
    (name) => (name === 'traceparent' ? parent : undefined),
    undefined,
    0,
  )!;
  t.equal(ofHeader.traceId, traceIdOf(parent));
  t.equal(
    tracer.beginModelCall((name) => (name === 'traceparent' ? unsampled : undefined), owner, 0),
    null,
  );
  t.equal(tracer.beginModelCall(none, { trace: null }, 0), null);
  t.not(
    tracer.beginModelCall(none, undefined, 0)!.traceId,
    traceIdOf(parent),
    'without either it begins a trace',
  );
});
