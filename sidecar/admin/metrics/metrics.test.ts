// The text that Prometheus scrapes, parsed strictly and compared with known numbers, random histories and real calls.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { loadSync, type MessageTypeDefinition } from '@grpc/proto-loader';
import t from 'tap';
import { type Exposition, parseExposition } from '../../../scripts/harness/exposition.ts';
import fc from '../../../scripts/harness/properties.ts';
import { waitUntil } from '../../../scripts/harness/wait-until.ts';
import { Cluster } from '../../cluster/cluster.ts';
import { Status } from '../../grpc/status.ts';
import { CallStats, ListenerStats } from '../../telemetry/call-stats.ts';
import { LlmStats } from '../../telemetry/llm-stats.ts';
import { TaskStats } from '../../telemetry/task-stats.ts';
import { acceptedFormat } from './accepted-format.ts';
import { createMetrics } from './metrics.ts';
import { MetricsPages } from './metrics-pages.ts';
import type { MeasuredCluster, MeasuredEndpoint, MetricsSource } from './metrics-source.ts';

const agentProto = loadSync('agent_service.proto', {
  includeDirs: [join(import.meta.dirname, '../../../proto')],
  keepCase: true,
});
const taskResponse = agentProto['agent.TaskResponse'] as MessageTypeDefinition<object, object>;

class FakeEndpoint implements MeasuredEndpoint {
  readonly address: string;
  readonly attemptsByStatus = new Float64Array(17);
  readonly pool = { connectionCount: 1 };

  constructor(address: string) {
    this.address = address;
  }
}

class FakeCluster implements MeasuredCluster {
  readonly name: string;
  activeCalls = 0;
  readonly retries = new Map<string, number>();
  readonly streamsResumed = new Map<string, number>();
  readonly hedges = new Map<string, number>();
  readonly calls = new CallStats();
  readonly connectFailures = new Map<string, number>();
  readonly breaker = { state: 'closed' as const, rejections: 0 };
  endpoints: FakeEndpoint[] = [];
  readonly outliers = {
    ejections: new Map<string, number>(),
    detector: { endpoints: [] as { ejected: boolean; reason: string | undefined }[] },
  };

  constructor(name: string, ...addresses: string[]) {
    this.name = name;
    this.endpoints = addresses.map((address) => new FakeEndpoint(address));
  }

  reportedEndpoints(): readonly FakeEndpoint[] {
    return this.endpoints;
  }
}

function source(clusters: FakeCluster[] = [], fields: Partial<MetricsSource> = {}): MetricsSource {
  return {
    version: '1.2.3',
    ready: () => true,
    listeners: [],
    clusters: () => clusters,
    circuits: () => [],
    tasks: new TaskStats(),
    taskStore: { joined: 2, replayed: 1, refused: 0 },
    ...fields,
  };
}

const pagesOf = (from: MetricsSource) => new MetricsPages(createMetrics(from));
const textOf = async (pages: MetricsPages, accept?: string) => String((await pages.page(accept)).body);
const read = async (pages: MetricsPages) => parseExposition(await textOf(pages));
const scrape = (from: MetricsSource) => read(pagesOf(from));

t.test('the page has all numbers under their documented names and labels', async (t) => {
  const inbound = new ListenerStats('inbound');
  const outbound = new ListenerStats('outbound');
  const method = inbound.calls.of('/agent.AgentService/ProcessTask');
  for (const seconds of [0.004, 0.005, 0.0051, 3, 11]) method.record(Status.OK, seconds);
  method.record(Status.UNAVAILABLE, 0.5);
  inbound.activeCalls = 2;
  inbound.activeConnections = 3;
  inbound.reject('overloaded');
  inbound.reject('overloaded');
  outbound.reject('no_route');
  const writing = new FakeCluster('writing', '10.0.0.7:50051', '[::1]:50051');
  writing.activeCalls = 4;
  writing.retries.set('retried', 5);
  writing.hedges.set('won', 2);
  writing.calls.of('/a.B/C').record(Status.DEADLINE_EXCEEDED, 0.2);
  writing.endpoints[0]!.attemptsByStatus[Status.OK] = 6;
  writing.endpoints[1]!.attemptsByStatus[Status.UNAVAILABLE] = 7;
  let ready = false;
  const from = source([writing], { listeners: [inbound, outbound], ready: () => ready });
  const pages = pagesOf(from);
  t.equal((await pages.page(undefined)).contentType, 'text/plain; version=0.0.4; charset=utf-8');
  const { value, all, types } = await read(pages);

  const ok = { rpc_method: 'agent.AgentService/ProcessTask', rpc_status_code: 'OK' };
  const buckets = all('rpc_server_call_duration_seconds_bucket').filter(
    ({ labels }) =>
      labels['rpc_status_code'] === 'OK' && labels['rpc_method'] === 'agent.AgentService/ProcessTask',
  );
  t.same(
    buckets.map(({ labels, value }) => [labels['le'], value]),
    [
      ['0.005', 2],
      ...['0.01', '0.025', '0.05', '0.075', '0.1', '0.25', '0.5', '0.75', '1.0', '2.5'].map((le) => [le, 3]),
      ...['5.0', '7.5', '10.0'].map((le) => [le, 4]),
      ...['15.0', '20.0', '30.0', '45.0', '60.0', '120.0', '300.0', '600.0', '1800.0', '3600.0', '+Inf'].map(
        (le) => [le, 5],
      ),
    ],
  );
  t.equal(value('rpc_server_call_duration_seconds_count', ok), 5);
  t.equal(value('rpc_server_call_duration_seconds_sum', ok), 0.004 + 0.005 + 0.0051 + 3 + 11);
  t.equal(
    value('rpc_server_call_duration_seconds_count', { ...ok, rpc_status_code: 'UNAVAILABLE' }),
    1,
    'each status for itself',
  );
  t.equal(
    value('rpc_client_call_duration_seconds_count', {
      cluster: 'writing',
      rpc_method: 'a.B/C',
      rpc_status_code: 'DEADLINE_EXCEEDED',
    }),
    1,
  );
  const attempts = { cluster: 'writing', endpoint: '10.0.0.7:50051', code: 'OK' };
  t.equal(value('outrigger_attempts_total', attempts), 6);
  t.equal(
    value('outrigger_attempts_total', { ...attempts, endpoint: '[::1]:50051', code: 'UNAVAILABLE' }),
    7,
  );
  t.equal(value('outrigger_attempts_total', { ...attempts, code: 'INTERNAL' }), 0, 'from the start');
  t.equal(value('outrigger_attempts_total', { ...attempts, code: 'NOT_FOUND' }), undefined);
  t.equal(value('outrigger_retries_total', { cluster: 'writing', outcome: 'retried' }), 5);
  t.equal(value('outrigger_tasks_deduplicated_total', { outcome: 'joined' }), 2);
  t.equal(value('outrigger_retries_total', { cluster: 'writing', outcome: 'not_safe' }), 0, 'from the start');
  t.equal(value('outrigger_hedges_total', { cluster: 'writing', outcome: 'won' }), 2);
  t.equal(value('outrigger_active_calls', { listener: 'inbound' }), 2);
  t.equal(value('outrigger_active_calls', { listener: 'outbound' }), 0);
  t.equal(value('outrigger_active_calls', { cluster: 'writing' }), 4);
  t.equal(value('outrigger_active_connections', { listener: 'inbound' }), 3);
  t.equal(value('outrigger_active_connections', { cluster: 'writing' }), 2);
  t.equal(value('outrigger_rejected_total', { listener: 'inbound', reason: 'overloaded' }), 2);
  t.equal(value('outrigger_rejected_total', { listener: 'outbound', reason: 'no_route' }), 1);
  t.equal(value('outrigger_build_info', { version: '1.2.3' }), 1);
  t.equal(value('outrigger_ready'), 0);
  ready = true;
  t.equal((await read(pages)).value('outrigger_ready'), 1);

  t.match(Object.fromEntries(types), {
    rpc_server_call_duration_seconds: 'histogram',
    rpc_client_call_duration_seconds: 'histogram',
    outrigger_attempts_total: 'counter',
    outrigger_active_calls: 'gauge',
    outrigger_tasks_total: 'counter',
  });
});

t.test('the page has metrics of the process', async (t) => {
  // Node knows the event loop's utilization after its first wait.
  await waitUntil('the event loop has waited', () => performance.eventLoopUtilization().idle > 0);
  const { value, types } = await scrape(source());
  t.equal(types.get('process_cpu_seconds_total'), 'counter');
  t.ok(value('process_cpu_seconds_total')! > 0);
  const sinceStart = Date.now() / 1000 - value('process_start_time_seconds')!;
  t.ok(sinceStart > 0 && sinceStart < process.uptime() + 5, `started ${sinceStart} s ago`);
  t.ok(value('process_resident_memory_bytes')! > value('nodejs_heap_size_used_bytes')!);
  t.ok(value('nodejs_eventloop_active_seconds_total')! > 0);
  t.ok(value('nodejs_eventloop_idle_seconds_total')! > 0);
  if (process.platform !== 'linux') return;
  t.ok(value('process_open_fds')! >= 3);
  t.ok(value('process_max_fds')! > value('process_open_fds')!);
});

t.test('names that callers invent can neither break a line nor add lines without bound', async (t) => {
  const inbound = new ListenerStats('inbound');
  const strange = 'x/"quoted"\\and\tmore{le="1"} é';
  inbound.calls.of(`/${strange}`).record(Status.OK, 1);
  for (let i = 0; i < 5_000; i++) inbound.calls.of(`/random.Service/${i}`).record(Status.UNKNOWN, 0.1);
  // Paths that no service implements are counted without a name.
  inbound.calls.of('').record(Status.UNIMPLEMENTED, 0.1);
  inbound.calls.of('/no.Such/Method').record(Status.UNIMPLEMENTED, 0.1);
  const { value, all } = await scrape(source([], { listeners: [inbound] }));
  const count = 'rpc_server_call_duration_seconds_count';
  t.equal(value(count, { rpc_method: strange, rpc_status_code: 'OK' }), 1);
  t.equal(value(count, { rpc_method: '_OTHER', rpc_status_code: 'UNIMPLEMENTED' }), 2);
  t.equal(value(count, { rpc_method: '_OTHER', rpc_status_code: 'UNKNOWN' }), 4_801);
  t.ok(all(count).length <= 225, `${all(count).length} lines`);

  const outbound = new ListenerStats('outbound');
  for (let i = 0; i < 5_000; i++)
    outbound.calls.of(`/random.Service/${i}`, false).record(Status.CANCELLED, 0.1);
  t.equal(outbound.calls.methods.size, 51, 'paths that nobody answers leave room');
  for (let i = 0; i < 100; i++) outbound.calls.of(`/real.Service/${i}`).record(Status.OK, 0.1);
  t.equal(outbound.calls.of('/real.Service/99').byStatus[Status.OK]!.count, 1);

  for (let code = 100; code < 1_000; code++) outbound.reject(`code ${code}`);
  t.ok(outbound.rejected.size <= 65, 'error codes that a peer invents');
  t.equal(
    [...outbound.rejected.values()].reduce((sum, count) => sum + count),
    900,
  );

  const reasons = new Map<string, number>();
  for (let i = 0; i < 1_000; i++) Cluster.prototype.count(reasons, `tls_${i}`);
  t.equal(reasons.size, 65, 'reasons that an upstream invents');
  t.equal(reasons.get('_OTHER'), 936);
});

t.test('clients that accept OpenMetrics get an exemplar for each bucket', async (t) => {
  const inbound = new ListenerStats('inbound');
  const method = inbound.calls.of('/a.B/C');
  const traceId = (digit: string) => digit.repeat(32);
  method.record(Status.OK, 0.02);
  method.record(Status.OK, 0.021, traceId('a'));
  method.record(Status.OK, 0.022, traceId('b'));
  method.record(Status.OK, 0.023);
  method.record(Status.OK, 6_000, traceId('c'));
  const pages = pagesOf(source([], { listeners: [inbound] }));
  const page = await pages.page('application/openmetrics-text;version=1.0.0,text/plain;q=0.5');
  t.equal(page.contentType, 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  const open = parseExposition(String(page.body));
  t.ok(open.openMetrics);
  const labels = { rpc_method: 'a.B/C', rpc_status_code: 'OK' };
  const exemplars = open.exemplars.get('rpc_server_call_duration_seconds_bucket') ?? [];
  t.match(
    exemplars.map(({ labels, exemplar, value }) => [labels['le'], exemplar, value]),
    [
      ['0.025', { trace_id: traceId('b') }, 0.022],
      ['+Inf', { trace_id: traceId('c') }, 6_000],
    ],
    'the last traced call of each bucket',
  );
  const now = Date.now() / 1000;
  for (const { atSeconds } of exemplars) t.ok(Math.abs(now - atSeconds) < 60);
  t.equal(open.value('rpc_server_call_duration_seconds_count', labels), 5);
  const text = parseExposition(await textOf(pages));
  t.notOk(text.openMetrics);
  t.equal(text.exemplars.size, 0, 'the text format has none');
  t.same([...open.types.keys()].sort(), [...text.types.keys()].sort(), 'the same metrics in both');
});

t.test('only clients that name OpenMetrics and do not prefer text get it', async (t) => {
  const native = 'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited';
  for (const accept of [
    `${native},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1`,
    `${native};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1`,
  ])
    t.equal(acceptedFormat(accept), 'protobuf', accept);
  t.equal(acceptedFormat(`${native};q=0.4,application/openmetrics-text;version=1.0.0`), 'openmetrics');
  t.equal(acceptedFormat(native.replace('delimited', 'text')), 'text', 'of protobuf one kind');
  const prometheus =
    'application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1';
  const prometheus3 =
    'application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1';
  for (const accept of [
    prometheus,
    prometheus3,
    'Application/OpenMetrics-Text',
    'text/plain, application/openmetrics-text',
  ])
    t.equal(acceptedFormat(accept), 'openmetrics', accept);
  for (const accept of [
    undefined,
    '',
    '*/*',
    'text/html,application/xhtml+xml,*/*;q=0.8',
    'application/openmetrics-text;q=0',
    'application/openmetrics-text;q=0.2,text/plain;q=0.5',
    'application/openmetrics-text;version=9.9.9',
    'application/openmetrics-text;q=x',
    `${'text/html,'.repeat(5_000)}application/openmetrics-text`,
    ';;,,;q=,=',
  ])
    t.equal(acceptedFormat(accept), 'text', String(accept).slice(0, 60));
});

t.test('a long page is written in turns, one at a time, and never with old numbers', async (t) => {
  const cluster = new FakeCluster('writing', ...Array.from({ length: 3_000 }, (_, i) => `10.0.0.${i}:1`));
  for (const { attemptsByStatus } of cluster.endpoints) attemptsByStatus[0] = 1;
  let reads = 0;
  const pages = pagesOf(
    source([cluster], {
      ready: () => {
        reads++;
        return true;
      },
    }),
  );
  let turns = 0;
  let done = false;
  const count = () => {
    turns++;
    if (!done) setImmediate(count);
  };
  setImmediate(count);
  const first = pages.page(undefined);
  await new Promise((resolve) => setImmediate(resolve));
  const crowd = Array.from({ length: 100 }, () => pages.page(undefined));
  cluster.endpoints[0]!.attemptsByStatus[0] = 7;
  const { value } = parseExposition(String((await Promise.all(crowd))[99]!.body));
  done = true;
  await first;
  t.ok(turns >= 6, `${turns} turns of the event loop`);
  t.equal(reads, 2, 'a hundred that come together get one page');
  t.equal(value('outrigger_attempts_total', { cluster: 'writing', endpoint: '10.0.0.0:1', code: 'OK' }), 7);
});

t.test('the next page succeeds after one that failed', async (t) => {
  let broken = true;
  const ready = () => {
    if (broken) throw new Error('a defect');
    return true;
  };
  const pages = pagesOf(source([], { ready }));
  await t.rejects(pages.page(undefined), { message: 'a defect' });
  broken = false;
  t.equal((await read(pages)).value('outrigger_ready'), 1);
});

t.test('metrics sum two clusters of one name', async (t) => {
  const twins = [new FakeCluster('app', '127.0.0.1:1'), new FakeCluster('app', '127.0.0.1:1')];
  for (const twin of twins) {
    twin.activeCalls = 2;
    twin.calls.of('/a.B/C').record(Status.OK, 1);
    twin.retries.set('retried', 3);
    twin.endpoints[0]!.attemptsByStatus[0] = 4;
  }
  const { value } = await scrape(source(twins));
  t.equal(value('outrigger_active_calls', { cluster: 'app' }), 4);
  t.equal(value('outrigger_active_connections', { cluster: 'app' }), 2);
  t.equal(value('outrigger_retries_total', { cluster: 'app', outcome: 'retried' }), 6);
  t.equal(value('outrigger_attempts_total', { cluster: 'app', endpoint: '127.0.0.1:1', code: 'OK' }), 8);
  const labels = { cluster: 'app', rpc_method: 'a.B/C', rpc_status_code: 'OK' };
  t.equal(value('rpc_client_call_duration_seconds_count', labels), 2);
});

t.test('known series appear as 0 from the first scrape on, within bounds', async (t) => {
  const inbound = new ListenerStats('inbound');
  const outbound = new ListenerStats('outbound');
  const clusters = Array.from({ length: 60 }, (_, c) => {
    const addresses = Array.from({ length: 50 }, (_, i) => `10.0.${c}.${i}:1`);
    return new FakeCluster(`c${c}`, ...addresses);
  });
  let agent = 'research';
  const from = source(clusters, {
    listeners: [inbound, outbound],
    known: {
      reasons: ['overloaded', 'no_route'],
      agent: () => agent,
      models: () => [{ upstream: 'openai', model: 'm' }],
    },
    llm: { stats: new LlmStats(), upstreams: () => [], waiting: () => 0, bodyBytes: () => 0 },
  });
  const pages = pagesOf(from);
  const first = await read(pages);
  const [server, client] = ['rpc_server_call_duration_seconds', 'rpc_client_call_duration_seconds'] as const;
  const task = { rpc_method: 'agent.AgentService/ProcessTask' };
  const statuses = [
    'OK',
    'UNKNOWN',
    'DEADLINE_EXCEEDED',
    'RESOURCE_EXHAUSTED',
    'INTERNAL',
    'UNAVAILABLE',
    'DATA_LOSS',
  ];
  for (const rpc_status_code of statuses) {
    t.equal(first.value(`${server}_count`, { ...task, rpc_status_code }), 0);
    t.equal(first.value(`${server}_bucket`, { ...task, rpc_status_code, le: '20.0' }), 0);
    t.equal(first.value(`${client}_count`, { ...task, rpc_status_code, cluster: 'c0' }), 0);
    const attempts = { cluster: 'c1', endpoint: '10.0.1.49:1', code: rpc_status_code };
    t.equal(first.value('outrigger_attempts_total', attempts), 0);
  }
  t.equal(first.value('outrigger_rejected_total', { listener: 'inbound', reason: 'overloaded' }), 0);
  t.equal(first.value('outrigger_rejected_total', { listener: 'outbound', reason: 'too_many_streams' }), 0);
  t.equal(first.value('outrigger_circuit_rejections_total', { cluster: 'c2', method: task.rpc_method }), 0);
  t.equal(first.value('outrigger_connect_failures_total', { cluster: 'c2', reason: 'no_socket' }), 0);
  t.equal(first.value('outrigger_tasks_total', { agent, status: 'ERROR' }), 0);
  t.equal(first.value('outrigger_tokens_total', { agent, use: 'wasted' }), 0);
  const model = { agent: '', upstream: 'openai', model: 'm' };
  t.equal(first.value('outrigger_llm_requests_total', { ...model, outcome: 'throttled' }), 0);
  t.equal(first.value('outrigger_llm_attempts_total', { ...model, outcome: '429' }), 0);

  const bounds = (page: Exposition, methods: number) => {
    t.equal(page.all(`${server}_count`).length, 2 * statuses.length);
    t.equal(page.all(`${client}_count`).length, methods * statuses.length, 'of all clusters together');
    t.equal(page.all('outrigger_attempts_total').length, 100 * statuses.length, 'of 3,000 endpoints');
    t.equal(page.all('outrigger_circuit_rejections_total').length, 50 * 2);
  };
  bounds(first, 8);
  const onlyCalls = await read(pagesOf({ ...from, hasApp: () => false }));
  t.equal(onlyCalls.all(`${server}_count`).length, 0, 'nothing will be counted where there is no app');
  t.equal(onlyCalls.all(`${client}_count`).length, 8 * statuses.length);
  for (let i = 0; i < 30; i++) clusters[59]!.calls.of(`/a.B/M${i}`).record(Status.OK, 1);
  for (let i = 0; i < 30; i++) clusters[58]!.calls.of(`/invented.By/${i}`, false).record(Status.CANCELLED, 1);
  const later = await read(pages);
  // 18 of these have no place among the twelve, and show only the statuses that they have counted.
  t.equal(later.all(`${client}_count`).length, 12 * statuses.length + 26 + 30);
  const failures = { rpc_status_code: 'INTERNAL', cluster: 'c59' };
  t.equal(
    later.value(`${client}_count`, { ...failures, rpc_method: 'a.B/M0' }),
    0,
    'a method that was called',
  );
  t.equal(
    later.value(`${client}_count`, { ...task, ...failures, cluster: 'c0' }),
    0,
    'who has a place keeps it',
  );

  clusters[0]!.endpoints[0]!.attemptsByStatus[Status.OK] = 10;
  await read(pages);
  const [kept] = clusters[0]!.endpoints;
  for (let round = 0; round < 50; round++) {
    clusters[0]!.endpoints = Array.from({ length: 50 }, (_, i) => new FakeEndpoint(`10.9.${round}.${i}:1`));
    await read(pages);
  }
  clusters[0]!.endpoints = [new FakeEndpoint(kept!.address)];
  const back = await read(pages);
  t.equal(
    back.value('outrigger_attempts_total', { cluster: 'c0', endpoint: kept!.address, code: 'OK' }),
    10,
    '2,500 endpoints that nobody has called do not make it forgotten',
  );
  agent = 'renamed';
  t.equal((await read(pages)).value('outrigger_tasks_total', { agent, status: 'ERROR' }), 0);
});

t.test('a removed endpoint disappears, and its counters continue when it returns', async (t) => {
  const cluster = new FakeCluster('writing', 'a:1', 'b:1');
  const pages = pagesOf(source([cluster]));
  const attemptsOf = async (endpoint: string) =>
    (await read(pages)).value('outrigger_attempts_total', {
      cluster: 'writing',
      endpoint,
      code: 'OK',
    });
  const [a, b] = cluster.endpoints as [FakeEndpoint, FakeEndpoint];
  a.attemptsByStatus[0] = 10;
  b.attemptsByStatus[0] = 20;
  t.equal(await attemptsOf('a:1'), 10);
  b.attemptsByStatus[0] = 25;
  const again = new FakeEndpoint('b:1');
  again.attemptsByStatus[0] = 1;
  cluster.endpoints = [a, again];
  t.equal(await attemptsOf('b:1'), 26, 'with what was counted after the last scrape');
  t.equal(await attemptsOf('b:1'), 26, 'once');
  again.attemptsByStatus[0] = 3;
  t.equal(await attemptsOf('b:1'), 28);
  cluster.endpoints = [again];
  t.equal(await attemptsOf('a:1'), undefined);
  t.equal(await attemptsOf('b:1'), 28);
  cluster.endpoints = [new FakeEndpoint('a:1'), again];
  cluster.endpoints[0]!.attemptsByStatus[0] = 2;
  t.equal(await attemptsOf('a:1'), 12, 'a counter that was absent has not gone back');
});

t.test('no counter decreases between scrapes, even if it was absent meanwhile', async (t) => {
  const clusterName = fc.constantFrom('one', 'two');
  const address = fc.constantFrom('a:1', 'b:1', 'c:1');
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const), clusterName, address }) },
    fc.record({ do: fc.constant('replaceEndpoint' as const), clusterName, address }),
    fc.record({ do: fc.constant('removeEndpoint' as const), clusterName, address }),
    fc.record({ do: fc.constant('replaceCluster' as const), clusterName, address }),
    fc.record({ do: fc.constant('removeCluster' as const), clusterName, address }),
    { weight: 2, arbitrary: fc.record({ do: fc.constant('scrape' as const), clusterName, address }) },
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
    const clusters: FakeCluster[] = [];
    const circuits = () =>
      clusters.map(({ name, breaker }) => ({ cluster: name, method: '/a.B/C', breaker }));
    const pages = pagesOf(source(clusters, { circuits }));
    const highest = new Map<string, number>();
    for (const { do: what, clusterName, address } of steps) {
      let cluster = clusters.find(({ name }) => name === clusterName);
      if (what === 'removeCluster' || what === 'replaceCluster') {
        if (cluster !== undefined) clusters.splice(clusters.indexOf(cluster), 1);
        if (what === 'replaceCluster') clusters.push(new FakeCluster(clusterName, address));
      } else if (what === 'removeEndpoint' || what === 'replaceEndpoint') {
        if (cluster === undefined) continue;
        cluster.endpoints = cluster.endpoints.filter((endpoint) => endpoint.address !== address);
        if (what === 'replaceEndpoint') cluster.endpoints.push(new FakeEndpoint(address));
      } else if (what === 'call') {
        if (cluster === undefined) clusters.push((cluster = new FakeCluster(clusterName)));
        let endpoint = cluster.endpoints.find((endpoint) => endpoint.address === address);
        if (endpoint === undefined) cluster.endpoints.push((endpoint = new FakeEndpoint(address)));
        endpoint.attemptsByStatus[Status.OK]!++;
        cluster.calls.of('/a.B/C').record(Status.OK, 0.25);
        cluster.breaker.rejections++;
        for (const counts of [cluster.retries, cluster.outliers.ejections])
          counts.set('latency', (counts.get('latency') ?? 0) + 1);
      } else {
        const { samples, types } = await read(pages);
        for (const [series, value] of samples) {
          const name = series.slice(0, series.indexOf('{'));
          const counts = types.get(name) === 'counter' || name.startsWith('rpc_');
          if (!counts) continue;
          assert.ok(value >= (highest.get(series) ?? 0), `${series} went down to ${value}`);
          highest.set(series, value);
        }
      }
    }
  });
  await t.resolves(fc.assert(property, { numRuns: 150 }));
});

t.test('metrics count tasks by agent and outcome, and their tokens by use', async (t) => {
  const tasks = new TaskStats();
  const run = (agent: string, status: number, answer?: object, cut = 0, modelTokens = 0) => {
    const observer = tasks.observe(agent, '/agent.AgentService/ProcessTask');
    if (answer !== undefined) {
      const message = taskResponse.serialize(answer);
      const framed = Buffer.concat([Buffer.alloc(5), message]);
      framed.writeUInt32BE(message.length, 1);
      const half = framed.length >> 1;
      observer.onResponseData(framed, 0, half);
      observer.onResponseData(framed, half, framed.length - cut);
    }
    observer.onEnd(status as 0, modelTokens, true);
  };
  run('research', Status.OK, { output: 'yes', status: 'SUCCESS', tokens_used: 100 });
  run('research', Status.OK, { output: 'some', status: 'PARTIAL', tokens_used: 20 });
  run('research', Status.OK, { status: 'FAILED', tokens_used: 3 });
  run('research', Status.OK, { status: 'TIMEOUT', tokens_used: -5 });
  run('research', Status.OK, { status: 9, tokens_used: 1 });
  run('research', Status.OK, { output: 'cut', status: 'FAILED', tokens_used: 7 }, 1);
  run('research', Status.UNAVAILABLE);
  run('research', Status.CANCELLED, { output: 'nobody reads this', status: 'SUCCESS', tokens_used: 50 });
  run('code', Status.OK, { status: 'SUCCESS' });
  // The answer's own count wins; the egress's count stands in where there is no answer.
  run('writing', Status.OK, { status: 'SUCCESS', tokens_used: 30 }, 0, 31);
  run('writing', Status.CANCELLED, undefined, 0, 400);
  const lost = tasks.observe('lost', '/agent.AgentService/ProcessTask');
  lost.onEnd(Status.OK, 17, false);
  for (const [status, modelTokens] of [
    [Status.OK, 1_000],
    [Status.UNAVAILABLE, 5_000],
  ] as const) {
    const stream = tasks.observe('writing', '/agent.AgentService/StreamProcess');
    stream.onResponseData(Buffer.from([0, 0, 0, 0, 2, 0x18, 2]), 0, 7);
    t.equal(stream.taskStatus, -1, 'a chunk is no answer');
    stream.onEnd(status, modelTokens, true);
  }
  const { value, all } = await scrape(source([], { tasks }));
  const expected = { SUCCESS: 1, PARTIAL: 1, FAILED: 1, TIMEOUT: 1, UNKNOWN: 2, ERROR: 2 };
  for (const [status, count] of Object.entries(expected))
    t.equal(value('outrigger_tasks_total', { agent: 'research', status }), count, status);
  t.equal(value('outrigger_tasks_total', { agent: 'code', status: 'SUCCESS' }), 1);
  t.equal(value('outrigger_tokens_total', { agent: 'research', use: 'useful' }), 121);
  t.equal(
    value('outrigger_tokens_total', { agent: 'research', use: 'wasted' }),
    53,
    'nobody got it, or it failed',
  );
  t.equal(value('outrigger_tokens_total', { agent: 'code', use: 'useful' }), 0);
  t.equal(value('outrigger_tokens_total', { agent: 'lost', use: 'wasted' }), 17, 'nobody came back for it');
  t.equal(value('outrigger_tasks_total', { agent: 'writing', status: 'SUCCESS' }), 2);
  t.equal(value('outrigger_tasks_total', { agent: 'writing', status: 'ERROR' }), 2);
  t.equal(value('outrigger_tokens_total', { agent: 'writing', use: 'useful' }), 1_030);
  t.equal(value('outrigger_tokens_total', { agent: 'writing', use: 'wasted' }), 5_400);

  for (let i = 0; i < 500; i++) run(`agent-${i}`, Status.UNAVAILABLE);
  const later = await scrape(source([], { tasks }));
  t.equal(all('outrigger_tasks_total').length, 4 * 6, 'each outcome from the first task on');
  t.equal(later.all('outrigger_tasks_total').length, 101 * 6);
  t.equal(later.value('outrigger_tasks_total', { agent: '_OTHER', status: 'ERROR' }), 404);
});

t.test('metrics show circuits by cluster and method, and ejections by reason', async (t) => {
  const cluster = new FakeCluster('writing');
  cluster.outliers.ejections.set('latency', 2).set('consecutive_failures', 1);
  cluster.outliers.detector.endpoints.push(
    { ejected: true, reason: 'latency' },
    { ejected: false, reason: 'latency' },
  );
  const circuits = [
    { cluster: 'writing', method: '/a.B/C', breaker: { state: 'open', rejections: 7 } },
    { cluster: 'writing', method: '', breaker: { state: 'closed', rejections: 0 } },
  ] as const;
  const { value } = await scrape(source([cluster], { circuits: () => circuits }));
  t.equal(value('outrigger_circuit_state', { cluster: 'writing', method: 'a.B/C' }), 2);
  t.equal(value('outrigger_circuit_rejections_total', { cluster: 'writing', method: 'a.B/C' }), 7);
  t.equal(value('outrigger_circuit_state', { cluster: 'writing', method: '_OTHER' }), 0);
  t.equal(value('outrigger_ejections_total', { cluster: 'writing', reason: 'latency' }), 2);
  t.equal(value('outrigger_endpoints_ejected', { cluster: 'writing', reason: 'latency' }), 1);
  t.equal(value('outrigger_endpoints_ejected', { cluster: 'writing', reason: 'consecutive_failures' }), 0);
});
