// What a real Prometheus makes of our metrics: long tasks have true quantiles, by classic and by native histograms, and
// the first failures of all are seen by `rate` and by the shipped alert.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import * as grpc from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { createMetrics } from '../sidecar/admin/metrics/metrics.ts';
import { MetricsPages } from '../sidecar/admin/metrics/metrics-pages.ts';
import { Status } from '../sidecar/grpc/status.ts';
import { metricsRoute } from '../sidecar/listeners/metrics.ts';
import { ListenerStats } from '../sidecar/telemetry/call-stats.ts';
import { LlmStats } from '../sidecar/telemetry/llm-stats.ts';
import { TaskStats } from '../sidecar/telemetry/task-stats.ts';
import { type Prometheus, startPrometheus } from './support/prometheus.ts';
import { rulesText } from './support/promql.ts';

t.setTimeout(290_000);

const METHOD = '/agent.AgentService/ProcessTask';

/** Numbers of the test's own, behind the page that a sidecar has. */
async function servePage(t: Test) {
  const inbound = new ListenerStats('inbound');
  const llm = new LlmStats();
  const none = () => [];
  const pages = new MetricsPages(
    createMetrics({
      version: '1.2.3',
      ready: () => true,
      listeners: [inbound],
      clusters: none,
      circuits: none,
      tasks: new TaskStats(),
      taskStore: { joined: 0, replayed: 0, refused: 0 },
      llm: { stats: llm, upstreams: none, waiting: () => 0, bodyBytes: () => 0 },
    }),
  );
  const accepted = new Set<string>();
  const route = metricsRoute({
    page: async (accept) => {
      const page = await pages.page(accept);
      accepted.add(page.contentType.split(';', 1)[0]!);
      return page;
    },
  });
  const server = createServer((request, response) => void route.handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { inbound, llm, accepted, port: (server.address() as AddressInfo).port };
}

/** The one number of a query, once there is one. */
function numberOf(prometheus: Prometheus, promql: string): Promise<number> {
  return waitUntil(promql, async () => {
    const [first] = await prometheus.query(promql);
    return first !== undefined && Number.isFinite(first.value) && first.value > 0 && first.value;
  });
}

for (const kind of ['classic', 'native'] as const) {
  t.test(
    `tasks that take long have true quantiles: ${kind}`,
    { skip: skipWithout('prometheus') },
    async (t) => {
      const { inbound, llm, accepted, port } = await servePage(t);
      const calls = inbound.calls.of(METHOD);
      const model = llm.of('openai', 'small').duration;
      // What is there at the first scrape is in no rate.
      calls.record(Status.OK, 0.001);
      model.record(0.001);
      const prometheus = await startPrometheus(t, {
        targets: { research: port },
        rules: '{}',
        features: kind === 'native' ? ['native-histograms'] : [],
      });
      await waitUntil(
        'the first scrape',
        async () => (await prometheus.query('outrigger_ready')).length === 1,
      );
      for (let seconds = 11; seconds <= 26; seconds++) calls.record(Status.OK, seconds, 'ab'.repeat(16));
      // A stream of half an hour, in a hundred calls.
      for (let i = 0; i < 84; i++) inbound.calls.of('/a.B/Stream').record(Status.OK, 1_200 + i);
      for (let seconds = 100; seconds <= 400; seconds += 20) model.record(seconds);
      const quantile = (q: number, name: string, match = '') =>
        numberOf(
          prometheus,
          kind === 'classic'
            ? `histogram_quantile(${q}, sum by (le) (rate(${name}_bucket${match}[1m])))`
            : `histogram_quantile(${q}, sum(rate(${name}${match}[1m])))`,
        );
      const near = (value: number, from: number, to: number, what: string) =>
        t.ok(value >= from && value <= to, `${what}: ${value}, which is to be from ${from} to ${to}`);
      const server = 'rpc_server_call_duration_seconds';
      const tasks = '{rpc_method="agent.AgentService/ProcessTask",rpc_status_code="OK"}';
      const isNative = kind === 'native';
      // Of 11, 12, … 26 s.
      near(await quantile(0.5, server, tasks), isNative ? 17 : 15, 20, 'half');
      near(await quantile(0.99, server, tasks), isNative ? 24.6 : 20, isNative ? 27 : 30, 'nearly all');
      const models = 'outrigger_llm_request_duration_seconds';
      near(await quantile(0.5, models), isNative ? 226 : 163, isNative ? 274 : 328, 'half of the requests');
      near(await quantile(0.99, models), isNative ? 360 : 327, isNative ? 432 : 656, 'nearly all requests');
      const longest = await numberOf(
        prometheus,
        isNative
          ? `histogram_quantile(0.5, ${server}{rpc_method="a.B/Stream",rpc_status_code="OK"})`
          : `histogram_quantile(0.5, sum by (le) (${server}_bucket{rpc_method="a.B/Stream",rpc_status_code="OK"}))`,
      );
      near(longest, isNative ? 1_180 : 600, isNative ? 1_330 : 1_800, 'a stream');
      const count = isNative ? `histogram_count(${server}${tasks})` : `${server}_count${tasks}`;
      t.equal(await numberOf(prometheus, count), 17);
      const sum = isNative ? `histogram_sum(${server}${tasks})` : `${server}_sum${tasks}`;
      t.equal(await numberOf(prometheus, sum), 296.001);
      t.equal(await numberOf(prometheus, 'outrigger_build_info{version="1.2.3"}'), 1, 'a gauge with a label');
      const type = isNative ? 'application/vnd.google.protobuf' : 'application/openmetrics-text';
      t.strictSame([...accepted], [type]);
      const exemplars = (await prometheus.get('query_exemplars', {
        query: isNative ? server : `${server}_bucket`,
        start: String(Date.now() / 1000 - 300),
        end: String(Date.now() / 1000 + 1),
      })) as { exemplars: { labels: { trace_id: string } }[] }[];
      t.equal(exemplars[0]?.exemplars[0]?.labels.trace_id, 'ab'.repeat(16));
    },
  );
}

for (const features of [[], ['native-histograms']]) {
  const kind = features[0] ?? 'classic';
  t.test(
    `the very first failures appear in every rate, and alert: ${kind}`,
    { skip: skipWithout('prometheus') },
    async (t) => {
      const agent = await startRawServer(
        t,
        {
          unary: ({ request }, callback) => {
            if (request.length === 0) callback(null, request);
            else callback({ code: grpc.status.INTERNAL, details: 'told to fail' });
          },
        },
        { unaryPath: METHOD },
      );
      const inbound = `127.0.0.1:${await freePort()}`;
      const sidecar = await startSidecar(t, {
        name: 'research-agent',
        inbound: { listen: inbound, app: agent.address, allow_call_cycles: true },
        outbound: {
          clusters: {
            research: {
              endpoints: [inbound],
              circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
            },
          },
        },
      });
      const prometheus = await startPrometheus(t, {
        targets: { research: sidecar.metricsPort },
        // Not to wait for minutes until what is true now has been so for long.
        rules: rulesText.replaceAll(/interval: \d+s/g, 'interval: 1s').replaceAll(/for: \d+m/g, 'for: 1s'),
        features,
      });
      await waitUntil(
        'the first scrape',
        async () => (await prometheus.query('outrigger_ready')).length === 1,
      );
      const client = new RawClient(t, sidecar.outboundPort, { 'grpc.default_authority': 'research' });
      let failed = 0;
      await Promise.all(
        Array.from({ length: 591 }, async (_, i) => {
          const { code } = await client.unary(Buffer.alloc(i < 200 ? 1 : 0), { path: METHOD });
          if (code === grpc.status.INTERNAL) failed++;
        }),
      );
      t.equal(failed, 200);
      // A scrape may have come in the middle of them.
      await waitUntil('a scrape has all attempts, and no more', async () => {
        const attempts = await numberOf(prometheus, 'sum(outrigger_attempts_total{cluster="research"})');
        return attempts === 591;
      });
      const seen = (name: string, match: string) => {
        const last =
          kind === 'classic'
            ? `increase(${name}_count{${match}}[1m])`
            : `histogram_count(increase(${name}{${match}}[1m]))`;
        return numberOf(prometheus, `sum(${last})`);
      };
      // What is between two scrapes is stretched to the ends of the minute.
      const internal = 'rpc_status_code="INTERNAL"';
      t.ok((await seen('rpc_server_call_duration_seconds', internal)) >= 200);
      t.ok((await seen('rpc_client_call_duration_seconds', internal)) >= 200);
      const counters = [
        'outrigger_attempts_total{cluster="research",code="INTERNAL"}',
        'outrigger_attempts_total{cluster="app",code="INTERNAL"}',
        'outrigger_tasks_total{status="ERROR"}',
      ];
      for (const counter of counters)
        t.ok((await numberOf(prometheus, `sum(increase(${counter}[1m]))`)) >= 200, counter);
      for (const alert of ['OutriggerErrorBudgetBurnsFast', 'OutriggerTasksFail'])
        t.ok(await numberOf(prometheus, `ALERTS{alertname="${alert}",alertstate="firing"}`), alert);
    },
  );
}
