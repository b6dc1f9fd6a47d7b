// Autoscaling by what sidecars measure: each name from the autoscaler to the adapter's query to a real sidecar's page.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { newTask, runOne, store } from '../sidecar/bus/log/test-support/logs.ts';
import { HandConsumer } from './support/hand-consumer.ts';
import { startPrometheus } from './support/prometheus.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

const manifests = join(import.meta.dirname, '..', 'k8s', 'components', 'autoscaling');
// biome-ignore lint/suspicious/noExplicitAny: objects of every kind, read by paths
type KubernetesObject = any;
const objectsOf = (name: string): KubernetesObject[] =>
  parseAllDocuments(readFileSync(join(manifests, name), 'utf8')).map((document) => document.toJS());

const autoscalers = objectsOf('autoscalers.yaml');
const [values] = objectsOf('prometheus-adapter-values.yaml');
interface Rule {
  readonly seriesQuery: string;
  readonly name: { readonly as: string };
  readonly metricsQuery: string;
}
const rules = values.rules.custom as Rule[];
const [tasksRule] = values.rules.external as Rule[];

t.test('each autoscaler reads the queue, calls in flight and latency, and nothing else', async (t) => {
  const given = rules.map(({ name }) => name.as).sort();
  t.strictSame(given, [
    'outrigger_inbound_active_calls',
    'outrigger_inbound_latency_p99_seconds',
    'outrigger_inbound_queued_calls',
  ]);
  for (const { spec } of autoscalers) {
    const asked = spec.metrics.map(({ pods }: KubernetesObject) => pods.metric.name);
    t.strictSame(asked.sort(), given, spec.scaleTargetRef.name);
  }
});

const skip = skipWithout('prometheus');
t.test("the adapter's queries return the values of a loaded sidecar for each pod", { skip }, async (t) => {
  const open: (() => void)[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-autoscaling-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const url = `file:${join(folder, 'tasks.db')}`;
  const app = await startUpstream(t, {
    onCall: ({ stream }) => stream.on('end', () => open.push(() => answerWith(stream, 'done'))),
  });
  const sidecar = await startSidecar(t, {
    inbound: { app: app.address, max_concurrent_calls: 1, queue: { max_calls: 8, max_wait: '60s' } },
    outbound: { clusters: { research: { bus: 'research' } } },
    bus: { url },
  });
  const idle = await startSidecar(t, { inbound: { app: app.address } });
  const prometheus = await startPrometheus(t, {
    targets: { loaded: sidecar.metricsPort, idle: idle.metricsPort },
    rules: 'groups: []',
  });
  // As the adapter fills them in for all pods of a namespace.
  const ask = async (rule: Rule) => {
    const query = rule.metricsQuery
      .replaceAll('<<.LabelMatchers>>', 'namespace="agents",pod=~"loaded-0|idle-0"')
      .replaceAll('<<.GroupBy>>', 'pod');
    const found = await prometheus.query(query);
    return Object.fromEntries(found.map(({ metric, value }) => [metric['pod']!, value]));
  };
  const [queued, active, latency] = ['queued_calls', 'active_calls', 'latency_p99_seconds'].map(
    (name) => rules.find((rule) => rule.name.as === `outrigger_inbound_${name}`)!,
  );
  const client = new RawClient(t, sidecar.inboundPort);
  const calls = Array.from({ length: 4 }, () => client.unary(Buffer.from('x')));
  await waitUntil('three calls wait', async () => {
    const [waiting, running] = [await ask(queued!), await ask(active!)];
    return waiting['loaded-0']! > 1 && waiting['idle-0'] === 0 && running['loaded-0']! > waiting['loaded-0']!;
  });
  for (let answered = 0; answered < calls.length; answered++)
    (await waitUntil('the next call came', () => open.shift()))();
  await Promise.all(calls);
  // A rate needs calls after the first that was scraped.
  await waitUntil('latency is known', async () => {
    const call = client.unary(Buffer.from('x'));
    (await waitUntil('the call came', () => open.shift()))();
    await call;
    return (await ask(latency!))['loaded-0']! > 0;
  });
  // Tasks that wait, and one that runs, as components/autoscaling-bus asks for them.
  const { log } = await HandConsumer.open(t, { url });
  await store(log, newTask('a'), newTask('b'), newTask('c'));
  await runOne(log);
  await waitUntil('all three are counted', async () => {
    const query = tasksRule!.metricsQuery
      .replaceAll('<<.LabelMatchers>>', 'namespace="agents",agent_type="research"')
      .replaceAll('<<.GroupBy>>', 'namespace');
    const [found] = await prometheus.query(query);
    return found?.value === 3;
  });
  for (const { seriesQuery, name } of rules) {
    const series = (await prometheus.get('series', { 'match[]': seriesQuery })) as Record<string, string>[];
    t.ok(series.length > 0, `${name.as}: the adapter finds ${seriesQuery}`);
    t.ok(series.every(({ namespace, pod }) => namespace === 'agents' && pod !== undefined));
  }
});
