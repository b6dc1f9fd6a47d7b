// `outrigger scaler` as KEDA meets it: grpcio and grpcurl ask a real process about a real bus, and about the pods of an agent,
// whose sidecars are real, too.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import t from 'tap';
import { TestAuthority } from '../scripts/harness/certificates.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answer, newTask, runOne, store } from '../sidecar/bus/log/test-support/logs.ts';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { DURATION_BUCKETS } from '../sidecar/telemetry/durations.ts';
import { startFakePods } from './support/fake-pods.ts';
import { HandConsumer } from './support/hand-consumer.ts';
import { Keda, startScaler } from './support/scaler.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);
t.jobs = 3;

const queue = { scalerAddress: 'scaler:15010', metric: 'queue', agentType: 'research', target: '4' };
const p99 = { scalerAddress: 'scaler:15010', metric: 'p99', target: '30', podSelector: 'app=research' };

t.test(
  'replicas follow the tasks on JetStream, and a bus that is away is an error to KEDA',
  { skip: skipWithout('nats-server', 'python') },
  async (t) => {
    const nats = await startNats(t);
    const url = `nats://${nats.address}`;
    const scaler = await startScaler(t, ['--bus.url', url, '--namespace', 'agents']);
    const keda = new Keda(t, scaler.address);
    t.match(await keda.ask('IsActive', queue), { code: 'OK', result: false });
    t.match(await keda.ask('GetMetricSpec', queue), {
      metrics: [{ name: 'outrigger-queue', whole: 4, float: 4 }],
    });
    const value = async (): Promise<number> => {
      const { metrics } = await keda.ask('GetMetrics', queue, { metricName: 'outrigger-queue' });
      return metrics![0]!.float;
    };
    t.equal(await value(), 0, 'a type of which the bus has never heard has no task');

    const stream = keda.begin('StreamIsActive', queue);
    const other = keda.begin('StreamIsActive', { ...queue, agentType: 'writing' });
    const few = keda.begin('StreamIsActive', { ...queue, activation: '2' });
    await waitUntil('the state is told', () =>
      [stream, other, few].every((id) => keda.told(id).length === 1),
    );
    const { log } = await HandConsumer.open(t, { url });
    await store(log, newTask('a'), newTask('b'));
    await waitUntil('the first task is pushed', () => keda.told(stream).at(-1) === true);
    await waitUntil('both tasks that wait are counted', async () => (await value()) === 2);
    t.equal((await keda.ask('IsActive', queue)).result, true);
    const task = await runOne(log);
    t.equal(await value(), 2, 'tasks that run count, too');
    await task.settle(answer('done'));
    await waitUntil('the end of one is seen', async () => (await value()) === 1);
    t.strictSame(keda.told(other), [false], 'tasks of another type');
    t.strictSame(keda.told(few), [false], 'two are not more than two');

    await nats.kill();
    await waitUntil('the loss is seen', async () => (await keda.ask('GetMetrics', queue)).code !== 'OK');
    for (const method of ['GetMetrics', 'IsActive'])
      t.match(await keda.ask(method, queue), { code: 'UNAVAILABLE', details: /\S/ }, method);
    t.match(await keda.ask('GetMetricSpec', queue), { code: 'OK' }, 'the target is known all the same');
    t.strictSame(keda.told(stream), [false, true], 'streams stay open, and say nothing');
    await nats.restart();
    await waitUntil('the bus is asked again', async () => (await keda.ask('IsActive', queue)).code === 'OK');
    t.equal(await value(), 1);
    await waitUntil('the agent is back, too', () => log.connected);
    await (await runOne(log)).settle(answer('done'));
    await waitUntil('the end is pushed', () => keda.told(stream).at(-1) === false);
    await store(log, newTask('c'));
    await waitUntil('the next task is pushed', () => keda.told(stream).at(-1) === true);

    for (const [metadata, details] of [
      [{ ...queue, metric: 'p95' }, /metadata.metric is "p95"; there are queue and p99/],
      [{ ...queue, agentTyp: 'x' }, /metadata."agentTyp" is unknown; did you mean agentType/],
      [{ ...queue, target: '0' }, /metadata.target takes the number of tasks/],
      [{ ...queue, target: '-1e9' }, /metadata.target/],
      [{ ...queue, agentType: '' }, /metadata.agentType is missing/],
      [{ ...queue, agentType: 'x'.repeat(64) }, /metadata.agentType/],
      [{ ...queue, agentType: '../../x' }, /metadata.agentType is "..\/..\/x"; .* bus.consume.agent_types/],
      [{ ...queue, podSelector: 'a=b\nc' }, /label selector/],
      [{ ...p99, window: '1h' }, /metadata.window takes/],
      [{ ...p99, podSelector: '' }, /metadata.podSelector is missing/],
      [Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`k${at}`, 'v'])), /too many keys/],
    ] as const) {
      t.match(await keda.ask('GetMetricSpec', metadata), { code: 'INVALID_ARGUMENT', details });
    }
    for (const method of ['GetMetrics', 'IsActive', 'StreamIsActive'])
      t.match(await keda.ask(method, { ...queue, metric: 'x' }), { code: 'INVALID_ARGUMENT' }, method);
    t.match(await keda.ask('GetMetrics', queue, { metricName: 's0-x' }), { code: 'INVALID_ARGUMENT' });
    const page = await (await fetch(scaler.metricsUrl)).text();
    t.match(page, /outrigger_scaler_answers_total\{method="GetMetrics",code="UNAVAILABLE"\} [1-9]/);
    t.match(page, /outrigger_scaler_bus_connected 1/);
    t.equal(await scaler.stop(), 0, scaler.logs());
    await waitUntil('streams end with the scaler', () => keda.told(stream).at(-1) === 'UNAVAILABLE');
  },
);

const skip = skipWithout('grpcurl', 'keda-proto');
t.test("grpcurl drives it by KEDA's own proto, in plain text and over mutual TLS", { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-scaler-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const url = `file:${join(folder, 'tasks.db')}`;
  const authority = await TestAuthority.make('keda');
  const server = await authority.issue({ names: ['scaler.agents', '127.0.0.1'] });
  const client = await authority.issue({ names: ['keda-operator'] });
  const files: Record<string, string> = { 'ca.crt': authority.ca };
  for (const [name, { cert, key }] of Object.entries({ server, client }))
    Object.assign(files, { [`${name}.crt`]: cert, [`${name}.key`]: key });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const file = (name: string): string => join(folder, name);
  const bus = ['--bus.url', url, '--namespace', 'agents'];
  const plain = await startScaler(t, bus);
  const secured = await startScaler(t, [
    ...bus,
    ...['--tls-cert', file('server.crt'), '--tls-key', file('server.key'), '--client-ca', file('ca.crt')],
  ]);
  const ask = async (address: string, tls: readonly string[], method: string) => {
    const ref = JSON.stringify({ name: 'research-agent', namespace: 'agents', scalerMetadata: queue });
    const data =
      method === 'GetMetrics' ? `{"scaledObjectRef": ${ref}, "metricName": "outrigger-queue"}` : ref;
    const proto = requireTool('keda-proto');
    const schema = ['-import-path', dirname(proto), '-proto', basename(proto), '-max-time', '20'];
    const { code, output } = await runProcess(t, requireTool('grpcurl'), [
      ...[...tls, ...schema, '-d', data, address, `externalscaler.ExternalScaler/${method}`],
    ]);
    return code === 0 ? JSON.parse(output) : output;
  };
  const consumer = await HandConsumer.open(t, { url });
  await store(consumer.log, newTask('a'), newTask('b'), newTask('c'));
  const trusts = ['-cacert', file('ca.crt'), '-authority', 'scaler.agents'];
  const shows = [...trusts, '-cert', file('client.crt'), '-key', file('client.key')];
  for (const [address, tls] of [
    [plain.address, ['-plaintext']],
    [secured.address, shows],
  ] as const) {
    t.strictSame(await ask(address, tls, 'GetMetricSpec'), {
      metricSpecs: [{ metricName: 'outrigger-queue', targetSize: '4', targetSizeFloat: 4 }],
    });
    t.strictSame(await ask(address, tls, 'GetMetrics'), {
      metricValues: [{ metricName: 'outrigger-queue', metricValue: '3', metricValueFloat: 3 }],
    });
    t.strictSame(await ask(address, tls, 'IsActive'), { result: true });
  }
  t.match(
    await ask(plain.address, ['-plaintext'], 'StreamMetricSpec'),
    /Code: Unimplemented/,
    'KEDA goes on',
  );
  t.type(await ask(secured.address, trusts, 'IsActive'), 'string', 'without a certificate nobody gets in');
  t.type(await ask(secured.address, ['-plaintext', '-connect-timeout', '2'], 'IsActive'), 'string');
});

t.test(
  'the scaler reads the pods: their p99, which of them are idle, and whether they wait for the provider',
  { skip: skipWithout('python') },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-scaler-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    const provider = createServer((_request, response) => {
      response
        .writeHead(429, { 'content-type': 'application/json' })
        .end('{"error":{"message":"slow down"}}');
    });
    await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      provider.close();
      provider.closeAllConnections();
    });
    const providerUrl = `http://127.0.0.1:${(provider.address() as AddressInfo).port}/v1`;
    const held: (() => void)[] = [];
    const app = await startUpstream(t, {
      onCall: ({ stream, headers }) => {
        const end = () => answerWith(stream, 'done');
        stream.on('end', () => {
          if (headers['x-hold'] === undefined) end();
          else held.push(end);
        });
        stream.resume();
      },
    });
    const metricsPort = await freePort();
    const start = (host: string) =>
      startSidecar(t, {
        inbound: { app: app.address },
        metrics: { listen: `${host}:${metricsPort}` },
        llm: { upstreams: [{ name: 'openai', url: providerUrl }], retry: { max_attempts: 1 } },
      });
    const [one, other] = await Promise.all([start('127.0.0.2'), start('127.0.0.3')]);
    const api = await startFakePods(t);
    const url = `file:${join(folder, 'tasks.db')}`;
    const scaler = await startScaler(
      t,
      ['--bus.url', url, '--metrics-port', String(metricsPort), '--interval', '1s'],
      { KUBECONFIG: api.kubeconfig },
    );
    const keda = new Keda(t, scaler.address);
    const value = async (metadata: Record<string, string>) => {
      const { code, metrics, details } = await keda.ask('GetMetrics', metadata);
      return code === 'OK' ? metrics![0]!.float : `${code} ${details}`;
    };
    t.equal(await value(p99), 0, 'no pod, no call');
    t.match(await keda.ask('IsActive', p99), { code: 'OK', result: false });
    api.failWith = 403;
    t.match(await keda.ask('GetMetrics', { ...p99, podSelector: 'app=other' }), {
      code: 'UNAVAILABLE',
      details: /can't list the pods app=other of agents: .*403/,
    });
    api.failWith = 0;
    api.pods.set('gone-0', '127.0.0.4');
    await waitUntil('an unread pod is an error', async () => /^UNAVAILABLE/.test(String(await value(p99))));
    t.match(await value(p99), /UNAVAILABLE the metrics of 0 of 1 pods .* pod gone-0: .*ECONNREFUSED/);
    const clients = [one, other].map(({ inboundPort }) => new RawClient(t, inboundPort));
    const metadata = new Metadata();
    metadata.set('x-hold', '1');
    const took: number[] = [];
    const call = async (client: RawClient, more = {}) => {
      const startedMs = performance.now();
      t.equal((await client.unary(Buffer.from('x'), more)).code, 0);
      took.push((performance.now() - startedMs) / 1_000);
    };
    const running = call(clients[0]!, { metadata });
    const answerIt = await waitUntil('the call is held', () => held.shift());
    api.pods.clear();
    api.pods.set('one-0', '127.0.0.2').set('other-0', '127.0.0.3');
    await waitUntil('both pods have a cost', () => api.costs.size === 2);
    const costs = { 'one-0': '100', 'other-0': '-100' };
    t.strictSame(Object.fromEntries(api.costs), costs, 'the busy one costs more');
    t.equal(await value(p99), 30, 'nobody knows how long the only call will take: nothing changes');
    t.equal((await keda.ask('IsActive', p99)).result, true);
    answerIt();
    await running;

    // How long they take, the callers measure, too.
    for (let at = 0; at < 60; at++) await call(clients[at % 2]!);
    const exact = took.sort((a, b) => a - b)[Math.ceil(took.length * 0.99) - 1]!;
    const bucketOf = (seconds: number) => DURATION_BUCKETS.findIndex((bound) => seconds <= bound);
    const measured = await waitUntil('the calls are measured', async () => {
      const seconds = await value(p99);
      return seconds === 30 ? undefined : Number(seconds);
    });
    t.ok(Math.abs(bucketOf(measured) - bucketOf(exact)) <= 1, `${measured} s of ${exact} s`);

    const { log } = await HandConsumer.open(t, { url });
    await store(log, ...Array.from({ length: 40 }, (_, at) => newTask(`t${at}`)));
    const watched = { ...queue, podSelector: 'app=research' };
    t.equal(await value(watched), 40, 'tasks wait for pods');
    const ask = async () => {
      const body = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'x' }] });
      const headers = { 'content-type': 'application/json' };
      for (const { llmPort } of [one, other]) {
        const endpoint = `http://127.0.0.1:${llmPort}/v1/chat/completions`;
        await (await fetch(endpoint, { method: 'POST', headers, body })).arrayBuffer();
      }
    };
    await ask();
    await waitUntil('the storm is seen', async () => {
      await ask();
      return (await value(watched)) === 8;
    });
    t.equal(await value(watched), 4 * api.pods.size, 'in a storm of 429 the pods there are stay');
    t.equal(await value(p99), 30, 'nor do slow calls ask for more: the target keeps them');
    t.equal(await value(queue), 40, 'without pods to look at, tasks are all that is known');
    t.equal((await keda.ask('IsActive', watched)).result, true);
  },
);
