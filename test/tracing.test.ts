// Traces as a collector gets them, over OTLP, from real processes: what a tree has in it.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { stringField } from '../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { ok, type Replica, silence, startReplica, trailersOnly } from './support/answers.ts';
import type { ReceivedSpan } from './support/otlp.ts';
import { drawTrees, type OtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts';
import {
  CLIENT,
  callersSpan,
  callsOf,
  childrenOf,
  isAttempt,
  metadata,
  metricsOf,
  outbound,
  SERVER,
  sampled,
  startOutbound,
  task,
  traceId,
  tracingTo,
  tree,
} from './support/tracing.ts';
import { answerWith, startUpstream, taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

// --- One tree ------------------------------------------------------------------------------------------------

/**
 * caller ─▶ sidecar of the caller ─▶ sidecar of the agent ─▶ agent ─▶ the same sidecar ─▶ another agent
 *
 * @param forwards whether the agent passes on what came with the task
 */
async function startChain(t: Test, receiver: OtlpReceiver, forwards: boolean) {
  const leaf = await startUpstream(t, { name: 'leaf' });
  const outboundPort = await freePort();
  const inner = new RawClient(t, outboundPort);
  const agent = await startUpstream(t, {
    onCall: ({ stream, headers }) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', async () => {
        const message = Buffer.concat(chunks).subarray(5);
        const { traceparent, tracestate } = headers;
        const context = { traceparent: String(traceparent), tracestate: String(tracestate) };
        const forwarded = forwards ? context : {};
        const id = message.toString('latin1').includes('hold') ? 'hold-child' : 'child';
        const child = Buffer.concat([taskRequest({ id }), stringField(2, correlationIn(message))]);
        await inner.unary(child, { path: PROCESS_TASK_PATH, metadata: metadata(forwarded) });
        answerWith(stream, Buffer.from([0x20, 42]));
      });
    },
  });
  const beside = await startSidecar(
    t,
    {
      name: 'research',
      version: '3.1.4',
      inbound: { app: agent.address },
      outbound: { listen: `127.0.0.1:${outboundPort}`, ...outbound([leaf.address]) },
    },
    { until: 'live', env: tracingTo(receiver) },
  );
  const caller = await startOutbound(t, receiver, [{ address: `127.0.0.1:${beside.inboundPort}` }]);
  return { client: new RawClient(t, caller.outboundPort), agent, leaf };
}

/** The text of field 2, which stands behind field 1. */
function correlationIn(message: Buffer): string {
  const at = 2 + message[1]!;
  return message[at] === 0x12 ? message.toString('utf8', at + 2, at + 2 + message[at + 1]!) : '';
}

const wholeTree = [
  'caller: CLIENT agent.AgentService/ProcessTask',
  '  caller: CLIENT Attempt.agent.AgentService/ProcessTask',
  '    research: SERVER agent.AgentService/ProcessTask',
  '      research: CLIENT agent.AgentService/ProcessTask',
  '        research: CLIENT Attempt.agent.AgentService/ProcessTask',
];

t.test("the spans of two sidecars and the agent's calls form one tree", async (t) => {
  const receiver = await startOtlpReceiver(t);
  const { client, agent, leaf } = await startChain(t, receiver, true);
  const { code } = await client.unary(task('task-1', 'talk-1'), {
    path: PROCESS_TASK_PATH,
    metadata: metadata({ traceparent: sampled, tracestate: 'congo=t61rcWkgMzE' }),
  });
  t.equal(code, 0);
  const spans = await receiver.until('all five spans came', (spans) => spans.length >= 5);
  t.strictSame(tree(spans), wholeTree);
  t.ok(spans.every((span) => span.traceId === traceId && span.status === 0));
  t.ok(spans.every((span) => span.traceState === 'congo=t61rcWkgMzE'));
  const [root] = callsOf(spans, CLIENT).filter(({ resource }) => resource['service.name'] === 'caller');
  t.equal(root!.parentSpanId, callersSpan);
  t.equal(root!.flags & 0x300, 0x300, 'its parent is of another process');
  const [server] = callsOf(spans, SERVER);
  t.match(server!.attributes, {
    'rpc.system.name': 'grpc',
    'rpc.method': 'agent.AgentService/ProcessTask',
    'rpc.response.status_code': 'OK',
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'research',
    'gen_ai.agent.version': '3.1.4',
    'gen_ai.conversation.id': 'talk-1',
    'outrigger.task.id': 'task-1',
    'outrigger.task.status': 'SUCCESS',
    'outrigger.task.tokens_used': 42,
  });
  t.equal(server!.resource['service.version'], '3.1.4');
  t.equal(agent.calls[0]!.headers['traceparent'], `00-${traceId}-${server!.spanId}-01`);
  t.equal(agent.calls[0]!.headers['tracestate'], 'congo=t61rcWkgMzE');
  const last = spans.find((span) => isAttempt(span) && span.resource['service.name'] === 'research');
  t.equal(leaf.calls[0]!.headers['traceparent'], `00-${traceId}-${last!.spanId}-01`);
  for (const span of spans) t.ok(span.endNano >= span.startNano);
});

t.test(
  "the calls of an agent that forwards nothing join the only running call, or the conversation's",
  async (t) => {
    const receiver = await startOtlpReceiver(t);
    const { client, leaf, agent } = await startChain(t, receiver, false);
    const call = (id: string, correlation: string) =>
      client.unary(task(id, correlation), { path: PROCESS_TASK_PATH });
    t.equal((await call('alone', 'talk-1')).code, 0);
    await receiver.until('all five spans came', (spans) => spans.length >= 5);
    t.strictSame(tree(receiver.spans), wholeTree);
    t.equal(agent.calls[0]!.headers['traceparent']!.slice(3, 35), receiver.spans[0]!.traceId);
    t.equal(leaf.calls[0]!.headers['traceparent']!.slice(3, 35), receiver.spans[0]!.traceId);

    receiver.spans.length = 0;
    const outcomes = await Promise.all(
      ['a', 'b', 'c', 'd'].map((name) => call(`task-${name}`, `talk-${name}`)),
    );
    t.strictSame(
      outcomes.map(({ code }) => code),
      [0, 0, 0, 0],
    );
    await receiver.until('all spans of four calls came', (spans) => spans.length >= 20);
    t.strictSame(tree(receiver.spans), [...wholeTree, ...wholeTree, ...wholeTree, ...wholeTree]);
    for (const server of callsOf(receiver.spans, SERVER)) {
      const [child] = childrenOf(receiver.spans, server);
      t.equal(child!.attributes['gen_ai.conversation.id'], server.attributes['gen_ai.conversation.id']);
    }
  },
);

/** The spans of one task of `npm start`; every process has ended, and each has sent what it had. */
async function runLocalTask(t: Test, env: Record<string, string>): Promise<ReceivedSpan[]> {
  const receiver = await startOtlpReceiver(t);
  const start = join(import.meta.dirname, '..', 'agents', 'local', 'start.ts');
  const { code, output } = await runProcess(
    t,
    process.execPath,
    [start, '--task', 'secret words of a task', '--agent', 'writing'],
    { env: { OPENAI_API_KEY: '', OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, ...env }, limitMs: 120_000 },
  );
  t.equal(code, 0, output);
  // An agent reads the list of its tools with one of its tasks, and keeps it. It belongs to no conversation.
  return receiver.spans.filter(({ name }) => !name.endsWith('outrigger.tools.v1.ToolRunner/List'));
}

const localTree = [
  'gateway: SERVER POST /api/v1/tasks',
  '  gateway: CLIENT agent.AgentService/ProcessTask',
  '    gateway: CLIENT Attempt.agent.AgentService/ProcessTask',
  '      writing-1: SERVER agent.AgentService/ProcessTask',
  '        writing-agent: INTERNAL invoke_agent writing-agent',
  '          writing-1: CLIENT chat gpt-4o-mini',
];

t.test(
  "a task of the local system: gateway, its sidecar, the agent's sidecar, the agent, the model",
  async (t) => {
    const spans = await runLocalTask(t, {});
    t.strictSame(tree(spans), localTree);
    t.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
    const conversations = spans.filter((span) => !isAttempt(span));
    t.equal(new Set(conversations.map(({ attributes }) => attributes['gen_ai.conversation.id'])).size, 1);
    t.match(spans.find(({ name }) => name.startsWith('chat'))!.attributes, {
      'gen_ai.operation.name': 'chat',
      'gen_ai.request.model': 'gpt-4o-mini',
      'gen_ai.response.model': 'gpt-4o-mini',
      'gen_ai.response.finish_reasons': ['stop'],
      'gen_ai.usage.input_tokens': Number,
      'gen_ai.usage.output_tokens': Number,
      'server.address': '127.0.0.1',
      'outrigger.attempts': 1,
    });
    const all = JSON.stringify(spans, (_key, value) => (typeof value === 'bigint' ? 0 : value));
    t.notMatch(all, /secret words/);
  },
);

t.test('the formats of B3 and Jaeger also give one tree', async (t) => {
  for (const names of ['b3', 'b3multi', 'jaeger']) {
    const spans = await runLocalTask(t, { OTEL_PROPAGATORS: names });
    t.strictSame(tree(spans), localTree, names);
  }
});

// --- Attempts ------------------------------------------------------------------------------------------------

const unavailable = trailersOnly(14, { 'grpc-message': 'secret words of a server' });

t.test('each attempt has a span with its endpoint and verdict, below one span of the call', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const replicas: Replica[] = [];
  for (const answer of [unavailable, ok]) replicas.push(await startReplica(t, answer));
  const gone = await freePort();
  const sidecar = await startOutbound(
    t,
    receiver,
    [{ address: `127.0.0.1:${gone}` }, replicas[0]!, replicas[1]!],
    {
      retry: { idempotent_methods: [rawPaths.unary], backoff: { base: '1ms', max: '2ms' } },
      outlier_detection: { consecutive_failures: 1, max_ejection_percent: 100 },
    },
  );
  const client = new RawClient(t, sidecar.outboundPort);
  const key = 'Bearer secret-key';
  const deadline = Date.now() + 20_000;
  // Calls go to one endpoint after the other: sooner or later one meets both that fail.
  const isFull = (span: ReceivedSpan): boolean => Number(span.attributes['outrigger.attempts']) >= 2;
  for (let i = 0; i < 6; i++) {
    const outcome = await client.unary(Buffer.from('secret words of a caller'), {
      deadline,
      metadata: metadata({ authorization: key }),
    });
    t.equal(outcome.code, 0);
  }
  await receiver.until('a call with several attempts came', (spans) => callsOf(spans, CLIENT).length === 6);
  const { spans } = receiver;
  for (const call of callsOf(spans, CLIENT)) {
    const attempts = childrenOf(spans, call);
    t.equal(attempts.length, call.attributes['outrigger.attempts']);
    t.strictSame(
      attempts.map(({ attributes }) => attributes['outrigger.attempt.number']),
      attempts.map((_, index) => index + 1),
    );
    t.equal(attempts.at(-1)!.attributes['outrigger.verdict'], 'success');
    t.equal(call.status, 0, 'a call that a retry has saved is no error');
  }
  const call = callsOf(spans, CLIENT).find(isFull)!;
  t.ok(call, drawTrees(spans));
  const refused = spans.find((span) => span.attributes['outrigger.attempt.end'] === 'no_connection');
  t.match(refused?.attributes, {
    'server.address': '127.0.0.1',
    'server.port': gone,
    'error.type': 'UNAVAILABLE',
  });
  const after = spans.find((span) => span.attributes['transparent-retry'] === true);
  t.equal(
    after?.attributes['previous-rpc-attempts'],
    Number(after?.attributes['outrigger.attempt.number']) - 2,
    'what was never processed counts as no attempt',
  );
  const failed = spans.find((span) => span.attributes['server.port'] === replicas[0]!.port);
  t.match(failed?.attributes, {
    'outrigger.verdict': 'failure',
    'outrigger.verdict.reason': 'unavailable',
    'rpc.response.status_code': 'UNAVAILABLE',
    'outrigger.cluster': 'upstream',
  });
  t.equal(failed?.status, 2);
  t.match(failed?.events, [{ name: 'outrigger.endpoint_ejected' }]);
  t.ok(spans.some(({ events }) => events.some(({ name }) => name === 'outrigger.retry')));
  const all = JSON.stringify(spans, (_key, value) => (typeof value === 'bigint' ? String(value) : value));
  t.notMatch(all, /secret/, 'no content, no message, no header value');
});

t.test('a hedge is a second attempt beside the first, and the loser is no error', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const slow = await startReplica(t, silence);
  const quick = await startReplica(t, ok);
  const sidecar = await startOutbound(t, receiver, [slow, quick], {
    retry: { idempotent_methods: [rawPaths.unary], budget: { min_concurrent: 100 } },
    hedge: { delay: '20ms', max_extra: 1 },
    outlier_detection: { max_ejection_percent: 0 },
  });
  const client = new RawClient(t, sidecar.outboundPort);
  for (let i = 0; i < 2; i++) t.equal((await client.unary(Buffer.from('x'))).code, 0);
  const isHedged = (span: ReceivedSpan) => span.events.some(({ name }) => name === 'outrigger.hedge');
  await receiver.until('both calls came', (spans) => callsOf(spans, CLIENT).length === 2);
  const hedged = callsOf(receiver.spans, CLIENT).find(isHedged)!;
  t.ok(hedged, drawTrees(receiver.spans));
  const attempts = childrenOf(receiver.spans, hedged);
  const at = (port: number) => attempts.find(({ attributes }) => attributes['server.port'] === port)!;
  const [loser, winner] = [at(slow.port), at(quick.port)];
  t.equal(loser.attributes['outrigger.attempt.end'], 'superseded');
  t.equal(winner.attributes['outrigger.verdict'], 'success');
  t.strictSame([hedged.status, loser.status, winner.status], [0, 0, 0]);
  t.ok(loser.startNano < winner.endNano && winner.startNano < loser.endNano, 'beside each other');
  const seen = [slow, quick].map(({ calls }) => calls.map(({ headers }) => String(headers['traceparent'])));
  t.ok(seen[0]!.some((traceparent) => traceparent.includes(loser.spanId)));
  t.ok(seen[1]!.some((traceparent) => traceparent.includes(winner.spanId)));
});

t.test('circuits and throttling are events', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const replica = await startReplica(t, unavailable);
  const throttled = await startReplica(t, trailersOnly(8, { 'grpc-retry-pushback-ms': '1234' }));
  const retry = { max_attempts: 1 };
  const sidecar = await startOutbound(t, receiver, [replica], {
    circuit_breaker: { consecutive_failures: 2 },
    outlier_detection: { max_ejection_percent: 0 },
    retry,
  });
  const client = new RawClient(t, sidecar.outboundPort);
  for (let i = 0; i < 3; i++) t.equal((await client.unary(Buffer.from('x'))).code, 14);
  await receiver.until('three calls came', (spans) => callsOf(spans, CLIENT).length === 3);
  const [, second, third] = callsOf(receiver.spans, CLIENT);
  t.match(second!.events, [
    { name: 'outrigger.circuit_opened', attributes: { 'outrigger.circuit.from': 'closed' } },
  ]);
  t.match(third!.events, [{ name: 'outrigger.circuit_rejected' }]);
  t.match(third!.attributes, {
    'outrigger.reason': 'circuit_open',
    'outrigger.attempts': 0,
    'error.type': 'UNAVAILABLE',
  });
  t.equal(third!.status, 2);
  t.equal(childrenOf(receiver.spans, third!).length, 0);

  const other = await startOutbound(t, receiver, [throttled], { retry });
  receiver.spans.length = 0;
  t.equal((await new RawClient(t, other.outboundPort).unary(Buffer.from('x'))).code, 8);
  await receiver.until('the throttled call came', (spans) => spans.length === 2);
  t.match(receiver.spans.find(isAttempt)!.events, [
    { name: 'outrigger.throttled', attributes: { 'outrigger.pushback_ms': 1234 } },
  ]);
});

t.test("a follower's task has its own span, with a link to the run", async (t) => {
  const receiver = await startOtlpReceiver(t);
  let release = (): void => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const agent = await startUpstream(t, {
    onCall: ({ stream }) => void held.then(() => answerWith(stream, Buffer.from([0x20, 7]))),
  });
  const sidecar = await startSidecar(
    t,
    { name: 'research', inbound: { app: agent.address } },
    { until: 'live', env: tracingTo(receiver) },
  );
  const client = new RawClient(t, sidecar.inboundPort);
  const call = (traceparent: string) =>
    client.unary(task('same'), { path: PROCESS_TASK_PATH, metadata: metadata({ traceparent }) });
  const first = call(sampled);
  await waitUntil('the task ran', () => agent.calls.length === 1);
  const second = call(sampled.replace('4bf9', '5bf9'));
  await waitUntil('the second call was there', async () =>
    /outrigger_active_calls\{listener="inbound"\} 2/.test(await metricsOf(sidecar)),
  );
  release();
  t.equal((await first).code, 0);
  t.equal((await second).code, 0);
  t.equal((await call(sampled.replace('4bf9', '6bf9'))).code, 0);
  t.equal(agent.calls.length, 1);
  await receiver.until('three spans came', (spans) => spans.length === 3);
  const of = (start: string) => receiver.spans.find((span) => span.traceId.startsWith(start))!;
  t.strictSame(of('4bf9').links, []);
  t.equal(of('4bf9').attributes['outrigger.task.tokens_used'], 7);
  t.strictSame(of('5bf9').links, [{ traceId, spanId: of('4bf9').spanId }]);
  t.equal(of('5bf9').attributes['outrigger.deduplicated'], 'joined');
  t.equal(of('6bf9').attributes['outrigger.deduplicated'], 'replayed');
  t.ok(receiver.spans.every((span) => span.kind === SERVER));
});

t.test('a stream has one span, from its first frame to its last, which reports a disconnect', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const agent = await startUpstream(t, {
    onCall: ({ stream }) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.write(Buffer.from([0, 0, 0, 0, 1, 1]));
    },
  });
  const sidecar = await startOutbound(t, receiver, [agent]);
  const client = new RawClient(t, sidecar.outboundPort);
  const identity = (bytes: Buffer): Buffer => bytes;
  const stream = client.client.makeServerStreamRequest(STREAM_PROCESS_PATH, identity, identity, task('t1'));
  await new Promise<void>((resolve) => stream.once('data', () => resolve()));
  stream.on('error', () => {});
  stream.cancel();
  await receiver.until('both spans came', (spans) => spans.length === 2);
  const [call] = callsOf(receiver.spans, CLIENT);
  t.match(call!.attributes, {
    'rpc.method': 'agent.AgentService/StreamProcess',
    'rpc.response.status_code': 'CANCELLED',
    'outrigger.task.id': 't1',
  });
  const [attempt] = childrenOf(receiver.spans, call!);
  t.match(attempt!.attributes, { 'outrigger.verdict': 'neutral', 'outrigger.attempt.end': 'cancelled' });
});
