// What is sampled, what context goes on, and collectors: good ones, and those that are away, slow or lie.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { defaultTextMapGetter, ROOT_CONTEXT, type TextMapPropagator, trace } from '@opentelemetry/api';
import t from 'tap';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { parseTraceparent } from '../sidecar/telemetry/trace-context.ts';
import { later, ok, startReplica, trailersOnly } from './support/answers.ts';
import type { ReceivedSpan } from './support/otlp.ts';
import { type OtlpReceiver, startGrpcOtlpReceiver, startOtlpReceiver } from './support/otlp-receiver.ts';
import {
  CLIENT,
  callersSpan,
  callsOf,
  isAttempt,
  metadata,
  metricsOf,
  outbound,
  SERVER,
  sampled,
  spanCounts,
  startOutbound,
  traceId,
  tracingTo,
  unsampled,
} from './support/tracing.ts';
import { untilLogged } from './support/until-logged.ts';
import { startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

/** What its Node SDK reads B3 with. */
const { B3Propagator } = createRequire(import.meta.resolve('@opentelemetry/sdk-node'))(
  '@opentelemetry/propagator-b3',
) as { B3Propagator: new () => TextMapPropagator };

// --- Sampling and propagation --------------------------------------------------------------------------------

t.test('an unsampled call leaves no span, and its context is forwarded', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const upstream = await startUpstream(t);
  const sidecar = await startOutbound(
    t,
    receiver,
    [upstream],
    {},
    { OTEL_TRACES_SAMPLER: 'parentbased_always_off' },
  );
  const client = new RawClient(t, sidecar.outboundPort);
  const seen = async (fields: Record<string, string | Buffer>) => {
    t.equal((await client.unary(Buffer.from('x'), { metadata: metadata(fields) })).code, 0);
    return upstream.calls.at(-1)!.headers;
  };
  const plain = await seen({ traceparent: unsampled, tracestate: 'congo=1' });
  t.equal(plain['traceparent'], unsampled, 'as it came');
  t.equal(plain['tracestate'], 'congo=1');
  t.match((await seen({}))['traceparent'], /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/, 'a context that says no');
  const malformed = await seen({ traceparent: sampled.toUpperCase(), tracestate: 'congo=1' });
  t.match(malformed['traceparent'], /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  t.notMatch(malformed['traceparent'], traceId);
  t.equal(malformed['tracestate'], undefined, 'void without its traceparent');
  const binary = Buffer.from(`0000${traceId}01${callersSpan}0201`, 'hex');
  const headers = await seen({ 'grpc-trace-bin': binary });
  const spans = await receiver.until('the sampled call came', (spans) => spans.length === 2);
  t.equal(headers['traceparent'], `00-${traceId}-${spans.find(isAttempt)!.spanId}-01`, 'W3C goes out');
  t.equal(headers['grpc-trace-bin'], undefined);
  t.equal(callsOf(spans, CLIENT)[0]!.parentSpanId, callersSpan);
});

t.test('a share of the traces is recorded, each of them completely', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const upstream = await startUpstream(t);
  const inbound = await startSidecar(
    t,
    { name: 'research', inbound: { app: upstream.address } },
    { until: 'live', env: tracingTo(receiver) },
  );
  const sidecar = await startOutbound(
    t,
    receiver,
    [{ address: `127.0.0.1:${inbound.inboundPort}` }],
    {},
    {
      OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
      OTEL_TRACES_SAMPLER_ARG: '0.25',
    },
  );
  const client = new RawClient(t, sidecar.outboundPort);
  const calls = 400;
  for (let i = 0; i < calls; i += 20)
    await Promise.all(Array.from({ length: 20 }, () => client.unary(Buffer.from('x'))));
  const count = async (): Promise<number> => (await spanCounts(sidecar))['exported']! / 2;
  await waitUntil('what was sampled was exported', async () => {
    const roots = callsOf(receiver.spans, CLIENT).length;
    return roots > 0 && roots === (await count()) && callsOf(receiver.spans, SERVER).length === roots;
  });
  const roots = callsOf(receiver.spans, CLIENT).length;
  t.ok(roots > 50 && roots < 150, `${roots} of ${calls}`);
  t.equal(receiver.spans.length, roots * 3, 'the sidecar behind, which would record all, follows');
});

t.test('context in the formats of B3, Jaeger and W3C passes both sidecars', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const upstream = await startUpstream(t);
  const ids = `${traceId}-${callersSpan}`;
  const split = { 'x-b3-traceid': traceId, 'x-b3-spanid': callersSpan };
  const formats: Record<
    string,
    { fields: Record<string, string>; goesOn: Record<string, RegExp | undefined> }[]
  > = {
    tracecontext: [
      {
        fields: { traceparent: `00-${traceId}-${callersSpan}-03`, b3: `${ids}-1` },
        goesOn: { traceparent: /^00-(\w{32})-(\w{16})-03$/, b3: new RegExp(ids) },
      },
    ],
    b3: [
      {
        fields: { b3: `${ids}-1`, traceparent: sampled },
        goesOn: { b3: /^(\w{32})-(\w{16})-1$/, traceparent: /./ },
      },
      { fields: { b3: `${ids}-d` }, goesOn: { b3: /^(\w{32})-(\w{16})-d$/ } },
      {
        fields: { ...split, 'x-b3-sampled': '1' },
        goesOn: { b3: /^(\w{32})-(\w{16})-1$/, 'x-b3-traceid': undefined },
      },
    ],
    'baggage, b3multi': [
      {
        fields: { b3: `${ids}-1` },
        goesOn: {
          'x-b3-traceid': /^(\w{32})$/,
          'x-b3-spanid': /^(\w{16})$/,
          'x-b3-sampled': /^1$/,
          b3: undefined,
        },
      },
    ],
    'tracecontext,jaeger': [
      {
        fields: { 'uber-trace-id': `${traceId}%3A${callersSpan}%3A0%3A1` },
        goesOn: { 'uber-trace-id': /^(\w{32}):(\w{16}):0:01$/, traceparent: /^00-(\w{32})-(\w{16})-01$/ },
      },
    ],
  };
  for (const [names, cases] of Object.entries(formats)) {
    const env = { OTEL_PROPAGATORS: names };
    const inbound = await startSidecar(
      t,
      { name: 'research', inbound: { app: upstream.address } },
      { until: 'live', env: tracingTo(receiver, env) },
    );
    const sidecar = await startOutbound(
      t,
      receiver,
      [{ address: `127.0.0.1:${inbound.inboundPort}` }],
      {},
      env,
    );
    const client = new RawClient(t, sidecar.outboundPort);
    for (const { fields, goesOn } of cases) {
      receiver.spans.length = 0;
      t.equal((await client.unary(Buffer.from('x'), { metadata: metadata(fields) })).code, 0);
      const { headers } = upstream.calls.at(-1)!;
      const spans = await receiver.until('all three came', (spans) => spans.length === 3);
      const what = `${names}: ${JSON.stringify(fields)}`;
      t.equal(callsOf(spans, CLIENT)[0]!.parentSpanId, callersSpan, what);
      t.ok(
        spans.every((span) => span.traceId === traceId),
        `${what}: one trace`,
      );
      const { spanId, parentSpanId } = callsOf(spans, SERVER)[0]!;
      t.equal(parentSpanId, spans.find(isAttempt)!.spanId, `${what}: one tree`);
      for (const [name, pattern] of Object.entries(goesOn)) {
        if (pattern === undefined) t.equal(headers[name], undefined, `${what}: no ${name}`);
        else t.match(headers[name], pattern, `${what}: ${name}`);
      }
      if (names.includes('b3')) {
        const context = new B3Propagator().extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
        t.match(trace.getSpanContext(context), { traceId, spanId, traceFlags: 1 }, 'as an SDK reads it');
      } else t.equal(parseTraceparent(String(headers['traceparent'])) & 1, 1);
    }
    // Without a context, and not sampled: the decision goes on in each format.
    receiver.spans.length = 0;
    const fields: Record<string, string> = names.includes('b3')
      ? { b3: `${ids}-0` }
      : { 'uber-trace-id': `${traceId}:${callersSpan}:0:0` };
    if (names === 'tracecontext') continue;
    t.equal((await client.unary(Buffer.from('x'), { metadata: metadata(fields) })).code, 0);
    const { headers } = upstream.calls.at(-1)!;
    const written = headers['x-b3-sampled'] ?? headers['b3'] ?? headers['uber-trace-id'];
    t.match(written, /(?:^|-)0$|:0:00$/, `${names}: not sampled`);
    await client.unary(Buffer.from('x'));
    await receiver.until('the next call came', (spans) => spans.length === 3);
    t.ok(
      receiver.spans.every((span) => span.traceId !== traceId),
      'what was not sampled left no span',
    );
  }
});

t.test("no span has a caller's query, and invented methods have no names", async (t) => {
  const receiver = await startOtlpReceiver(t);
  // It knows the methods of `rawPaths`; others are UNIMPLEMENTED.
  const app = await startRawServer(t);
  const anything = await startUpstream(t);
  const gone = await startReplica(t, trailersOnly(14));
  const cluster = (address: string) => ({ endpoints: [address], retry: { max_attempts: 1 } });
  const config = {
    name: 'caller',
    inbound: { app: anything.address },
    outbound: {
      clusters: {
        grpcjs: cluster(app.address),
        anything: cluster(anything.address),
        gone: cluster(gone.address),
      },
    },
    log: { level: 'debug', access: true },
  };
  const sidecar = await startSidecar(t, config, { until: 'live', env: tracingTo(receiver) });
  const secret = 'sk-live-0123456789';
  const names: string[] = [];
  let calls = 0;
  const call = async (authority: string, path: string, port = sidecar.outboundPort): Promise<number> => {
    calls++;
    const client = (clients[`${authority} ${port}`] ??= new RawClient(t, port, {
      'grpc.default_authority': authority,
    }));
    return (await client.unary(Buffer.from('x'), { path })).code;
  };
  const clients: Record<string, RawClient> = {};
  t.equal(await call('anything', `/test.Raw/Unary?token=${secret}`), 0, 'it goes through as it came');
  t.equal(anything.calls.at(-1)!.headers[':path'], `/test.Raw/Unary?token=${secret}`);
  t.equal(await call('-', `/test.Raw/Unary?token=${secret}`, sidecar.inboundPort), 0);
  // Until the circuit opens, and beyond.
  for (let i = 0; i < 8; i++) t.equal(await call('gone', `/test.Raw/Unary?token=${secret}${i}`), 14);
  t.equal(await call('nobody', `/test.Raw/Unary?token=${secret}`), 12, 'no route');
  t.equal(await call('grpcjs', '/test.Raw/Unary'), 0);
  for (let i = 0; i < 300; i++) t.equal(await call('grpcjs', `/invented.I${i}/Method`), 12);
  const roots = (spans: readonly ReceivedSpan[]) => spans.filter((span) => !isAttempt(span));
  const spans = await receiver.until('all came', (spans) => roots(spans).length === calls);
  names.push(...new Set(spans.map(({ name }) => name)));
  t.same(names.sort(), ['Attempt._OTHER', 'Attempt.test.Raw/Unary', '_OTHER', 'test.Raw/Unary']);
  const originals = new Set(roots(spans).map(({ attributes }) => attributes['rpc.method_original']));
  t.ok(originals.has('invented.I299/Method'));
  for (const span of spans)
    t.equal(span.attributes['rpc.method_original'] !== undefined, span.attributes['rpc.method'] === '_OTHER');
  t.equal(originals.size, 302, 'of each invented one, of the call without a route, and none of the others');
  const page = async (path: string): Promise<string> =>
    (
      await fetch(`http://127.0.0.1:${sidecar.adminPort}${path}`, {
        headers: { accept: 'application/json' },
      })
    ).text();
  await untilLogged(t, sidecar, /circuit.* is open/);
  const told: Record<string, string> = {
    spans: JSON.stringify(spans, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
    log: sidecar.logs(),
  };
  for (const path of ['/metrics', '/stats', '/clusters', '/live?format=json', '/events?format=json'])
    told[path] = await page(path);
  for (const [where, text] of Object.entries(told)) {
    t.notMatch(text, secret, where);
    if (where !== 'log')
      t.match(text, where.startsWith('/events') ? /circuit/ : /test\.Raw\/Unary/, `${where} was read`);
  }
  const circuits = JSON.parse(told['/clusters']!).gone.circuits as object;
  t.same(Object.keys(circuits), ['/test.Raw/Unary'], 'one circuit, which has opened');
});

/** Node's options for a process that writes down each module it loads. */
const tellsModules = `--import=data:text/javascript,${encodeURIComponent(
  "import{registerHooks}from'node:module';" +
    "registerHooks({load(url,context,next){console.error('loaded '+url);return next(url,context)}})",
)}`;

t.test('without an endpoint there is no tracing: headers pass unread, and no SDK is loaded', async (t) => {
  const upstream = await startUpstream(t);
  const config = { outbound: outbound([upstream.address]) };
  const sidecar = await startSidecar(t, config, {
    until: 'live',
    env: { OTEL_TRACES_SAMPLER: 'always_on', NODE_OPTIONS: tellsModules },
  });
  const client = new RawClient(t, sidecar.outboundPort);
  const fields = { traceparent: 'not one', tracestate: '!', 'x-own': '1' };
  t.equal((await client.unary(Buffer.from('x'), { metadata: metadata(fields) })).code, 0);
  t.match(upstream.calls[0]!.headers, fields);
  await client.unary(Buffer.from('x'));
  t.equal(upstream.calls[1]!.headers['traceparent'], undefined);
  t.notMatch(await metricsOf(sidecar), /outrigger_spans/);
  const tracing = /loaded .*(@opentelemetry|telemetry\/tracing\/)/;
  t.notMatch(sidecar.logs(), tracing);
  const on = await startSidecar(t, config, {
    until: 'live',
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', NODE_OPTIONS: tellsModules },
  });
  await untilLogged(t, on, tracing);
});

// --- Collectors ----------------------------------------------------------------------------------------------

t.test('the standard variables select JSON, gzip, headers and gRPC', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const grpcReceiver = await startGrpcOtlpReceiver(t);
  const replica = await startReplica(t, ok);
  const variants = [
    { target: receiver, env: { OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' } },
    {
      target: receiver,
      env: {
        OTEL_EXPORTER_OTLP_COMPRESSION: 'gzip',
        OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=canoe',
        OTEL_SERVICE_NAME: 'named',
        OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test,service.name=unused',
      },
    },
    { target: grpcReceiver, env: { OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: 'grpc' } },
  ];
  for (const { target, env } of variants) {
    const sidecar = await startOutbound(t, target, [replica], {}, env);
    target.spans.length = 0;
    t.equal((await new RawClient(t, sidecar.outboundPort).unary(Buffer.from('x'))).code, 0);
    await target.until('both spans came', (spans) => spans.length === 2);
    t.match(callsOf(target.spans, CLIENT)[0]!.attributes, { 'rpc.response.status_code': 'OK' });
  }
  const [json, zipped] = [receiver.requests[0]!, receiver.requests.at(-1)!];
  t.equal(json.path, '/v1/traces');
  t.equal(json.headers['content-type'], 'application/json');
  t.match(zipped.headers, { 'content-encoding': 'gzip', 'x-tenant': 'canoe' });
  t.match(receiver.spans[0]!.resource, {
    'service.name': 'named',
    'deployment.environment.name': 'test',
    'telemetry.sdk.language': 'nodejs',
  });
});

t.test(
  'an absent, slow or lying collector costs no call, and lost spans are counted, and logged once',
  async (t) => {
    const receiver = await startOtlpReceiver(t);
    const replica = await startReplica(t, ok);
    const sidecar = await startOutbound(
      t,
      receiver,
      [replica],
      {},
      {
        OTEL_BSP_MAX_QUEUE_SIZE: '100',
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '20',
        OTEL_BSP_EXPORT_TIMEOUT: '500',
        OTEL_EXPORTER_OTLP_TIMEOUT: '400',
      },
    );
    const client = new RawClient(t, sidecar.outboundPort);
    const rush = async (calls: number): Promise<void> => {
      for (let i = 0; i < calls; i += 50) {
        const outcomes = await Promise.all(Array.from({ length: 50 }, () => client.unary(Buffer.from('x'))));
        t.ok(outcomes.every(({ code }) => code === 0));
      }
    };
    const total = (counts: Record<string, number>): number =>
      Object.values(counts).reduce((a, b) => a + b, 0);
    const warnings = (): number => sidecar.logs().match(/the export of spans fails/g)?.length ?? 0;

    await rush(50);
    await waitUntil('the good collector had all', () => receiver.spans.length >= 100);
    const answers: Record<string, OtlpReceiver['respond']> = {
      silent: () => {},
      'an error': (response) => void response.writeHead(500).end('x'.repeat(10_000)),
      'no right': (response) => void response.writeHead(401).end(),
      garbage: (response) => void response.writeHead(200).end(Buffer.alloc(5_000, 0xff)),
      'cut answers': (response) => {
        response.writeHead(200, { 'content-length': '1000' }).write('x');
        setTimeout(() => response.destroy(), 10).unref();
      },
    };
    for (const [what, respond] of Object.entries(answers)) {
      receiver.respond = respond;
      const before = total(await spanCounts(sidecar));
      await rush(250);
      await waitUntil(`every span was accounted for behind ${what}`, async () => {
        return total(await spanCounts(sidecar)) - before >= 500;
      });
    }
    const lost = await spanCounts(sidecar);
    t.ok(lost['dropped']! > 0, 'the queue was full');
    t.ok(lost['failed']! > 0);
    t.ok(warnings() >= 1 && warnings() <= 4, `${warnings()} warnings in ${total(lost)} spans`);

    // It says that it rejects some: they are lost, too.
    receiver.respond = (response, spans) => {
      const partial = Buffer.from([0x0a, 2, 0x08, Math.min(spans, 3)]);
      response.writeHead(200, { 'content-type': 'application/x-protobuf' }).end(partial);
    };
    await rush(50);
    await waitUntil('some were rejected', async () => (await spanCounts(sidecar))['rejected']! > 0);

    receiver.respond = undefined;
    receiver.spans.length = 0;
    await waitUntil('it works again', async () => {
      await rush(50);
      return receiver.spans.length > 0;
    });
    await untilLogged(t, sidecar, /the export of spans works again/);

    await receiver.stop();
    await rush(500);
    await waitUntil('what had nowhere to go was counted', async () => {
      const { dropped = 0, failed = 0 } = await spanCounts(sidecar);
      return dropped + failed > lost['dropped']! + lost['failed']! + 500;
    });
    const again = await startOtlpReceiver(t, { port: receiver.port });
    await waitUntil('the collector that came back gets spans', async () => {
      await rush(50);
      return again.spans.length > 0;
    });
  },
);

t.test('a collector that asks for a pause gets it, and its spans afterwards', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const grpcReceiver = await startGrpcOtlpReceiver(t);
  const replica = await startReplica(t, ok);
  const arrivals: number[] = [];
  const put = { http: '2', count: 1 };
  receiver.respond = (response) => {
    arrivals.push(performance.now());
    if (arrivals.length > put.count) receiver.respond = undefined;
    response.writeHead(arrivals.length > put.count ? 200 : 429, { 'retry-after': put.http }).end();
  };
  const sidecar = await startOutbound(t, receiver, [replica], {}, { OTEL_EXPORTER_OTLP_TIMEOUT: '1000' });
  const client = new RawClient(t, sidecar.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, 0);
  await waitUntil('it was asked', () => arrivals.length === 1);
  // More spans come, and none of them goes before it is time, though the exporter's own limit is shorter than the pause.
  for (let i = 0; i < 3; i++) t.equal((await client.unary(Buffer.from('x'))).code, 0);
  await waitUntil('it was asked again', () => arrivals.length === 2);
  t.ok(arrivals[1]! - arrivals[0]! > 1_900, `${Math.round(arrivals[1]! - arrivals[0]!)} ms later`);
  await receiver.until('what came meanwhile follows', (spans) => spans.length === 6);
  t.match(
    await spanCounts(sidecar),
    { exported: 8, failed: 0, dropped: 0 },
    'the batch that was put off was sent again',
  );

  // gRPC says it by google.rpc.RetryInfo: here { retry_delay { seconds: 2 } }.
  const asked: number[] = [];
  const type = Buffer.from('type.googleapis.com/google.rpc.RetryInfo');
  const any = Buffer.concat([
    Buffer.from([0x0a, type.length]),
    type,
    Buffer.from([0x12, 4, 0x0a, 2, 0x08, 2]),
  ]);
  const details = Buffer.concat([Buffer.from([0x08, 8, 0x1a, any.length]), any]);
  grpcReceiver.refuse = () => {
    asked.push(performance.now());
    return asked.length === 1 ? { code: 8, details } : undefined;
  };
  const env = { OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' };
  const other = await startOutbound(t, grpcReceiver, [replica], {}, env);
  t.equal((await new RawClient(t, other.outboundPort).unary(Buffer.from('x'))).code, 0);
  await grpcReceiver.until('both spans came', (spans) => spans.length === 2);
  t.ok(asked[1]! - asked[0]! > 1_900, `${Math.round(asked[1]! - asked[0]!)} ms later`);

  // At the end nobody waits for a pause that is longer than the end.
  receiver.respond = (response) => void response.writeHead(503, { 'retry-after': '60' }).end();
  t.equal((await client.unary(Buffer.from('x'))).code, 0);
  await untilLogged(t, sidecar, /503 and asks for a pause of 60 s/);
  client.client.close();
  t.equal(await sidecar.stop(20_000), 0);
});

t.test('a sidecar sends its remaining spans before it exits', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const replica = await startReplica(t, later(50, ok));
  const env = { OTEL_BSP_SCHEDULE_DELAY: '600000' };
  const sidecar = await startOutbound(t, receiver, [replica], {}, env);
  const client = new RawClient(t, sidecar.outboundPort);
  t.equal((await client.unary(Buffer.from('x'))).code, 0);
  t.equal(receiver.spans.length, 0);
  client.client.close();
  t.equal(await sidecar.stop(20_000), 0);
  t.equal(receiver.spans.length, 2, 'flushed');
});

/** Above two seconds for the sake of a busy machine; the ends that were seen took five seconds, ten, or for ever. */
const END_LIMIT_MS = 4_500;

/** Takes a thread of the process for good, as a name server or a disk does that does not answer. */
const hangingThread = (fifo: string) =>
  `--import=data:text/javascript,${encodeURIComponent(`import{open}from'node:fs';open(${JSON.stringify(fifo)},'r',()=>{})`)}`;

t.test("a sidecar that can't send its spans exits, whatever hangs", async (t) => {
  const receiver = await startOtlpReceiver(t);
  receiver.respond = () => {};
  const replica = await startReplica(t, ok);
  // Takes connections and says nothing, not even HTTP/2's preface.
  const silent = createServer(() => {});
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.teardown(() => silent.close());
  const { port } = silent.address() as AddressInfo;
  const fifo = join(t.testdir({}), 'fifo');
  execFileSync('mkfifo', [fifo]);
  const endings: Record<string, Record<string, string>> = {
    'a collector that does not answer': {},
    'one that says nothing': { OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}` },
    'one of gRPC that says nothing': {
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc',
    },
    'a thread that hangs': { NODE_OPTIONS: hangingThread(fifo) },
  };
  for (const [what, env] of Object.entries(endings)) {
    const stuck = await startOutbound(t, receiver, [replica], {}, { OTEL_BSP_SCHEDULE_DELAY: '10', ...env });
    const client = new RawClient(t, stuck.outboundPort);
    t.equal((await client.unary(Buffer.from('x'))).code, 0);
    // A pipe that nobody reads is full in no time.
    if (what === 'a thread that hangs') stuck.child.stdout!.pause();
    client.client.close();
    const startedAtMs = performance.now();
    stuck.kill('SIGTERM');
    const code = await Promise.race([exitOf(stuck.child), sleep(20_000)]);
    t.equal(code, 0, `${what}: not killed`);
    const tookMs = performance.now() - startedAtMs;
    t.ok(tookMs < END_LIMIT_MS, `${what}: ${Math.round(tookMs)} ms`);
  }
});

/** Its end alone: its output may still be in the pipe. */
function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => child.once('exit', resolve));
}

t.test('the sidecar warns of invalid variables, and runs', async (t) => {
  const replica = await startReplica(t, ok);
  const config = { outbound: outbound([replica.address]) };
  const env = {
    OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9',
    OTEL_EXPORTER_OTLP_CERTIFICATE: 'no-such-file.pem',
    OTEL_TRACES_SAMPLER: 'sometimes',
  };
  const sidecar = await startSidecar(t, config, { until: 'live', env });
  t.equal((await new RawClient(t, sidecar.outboundPort).unary(Buffer.from('x'))).code, 0);
  await untilLogged(t, sidecar, /OTEL_TRACES_SAMPLER=sometimes is not known here/);
  const nowhere = await startSidecar(t, config, { until: 'live', env: { OTEL_TRACES_EXPORTER: 'otlp' } });
  await untilLogged(
    t,
    nowhere,
    /OTEL_TRACES_EXPORTER=otlp without OTEL_EXPORTER_OTLP_ENDPOINT: traces are off/,
  );
});
