// What a running sidecar tells of real calls: its /metrics, and its access log when that is on.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import t, { type Test } from 'tap';
import { type Exposition, parseExposition } from '../scripts/harness/exposition.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { ok, startReplica } from './support/answers.ts';
import { untilFound, untilWell } from './support/now.ts';
import { startUpstream } from './support/upstream.ts';

const definitions = loadSync('agent_service.proto', {
  includeDirs: [join(import.meta.dirname, '../proto')],
  keepCase: true,
  defaults: true,
});
const agentService = definitions['agent.AgentService'] as grpc.ServiceDefinition;
const { ProcessTask } = agentService as Record<'ProcessTask', grpc.MethodDefinition<object, object>>;

interface Task {
  task_id?: string;
  input: string;
}

/** An agent that ends tasks as their input asks. */
async function startAgent(t: Test, llmPort?: () => number): Promise<string> {
  const server = new grpc.Server();
  server.addService(agentService, {
    ProcessTask: ({ request }: { request: Task }, callback: grpc.sendUnaryData<object>) => {
      const output = 'x'.repeat(200_000);
      if (request.input === 'refuse') callback({ code: grpc.status.INVALID_ARGUMENT, details: 'no' });
      else if (request.input === 'hang') return;
      else if (request.input === 'ask') void askModel(llmPort!());
      else callback(null, { output, status: request.input, tokens_used: 10 });
    },
    StreamProcess: (call: grpc.ServerWritableStream<Task, object>) => {
      call.write({ chunk: 'part', is_final: true });
      call.end();
    },
    HealthCheck: (_: unknown, callback: grpc.sendUnaryData<object>) => callback(null, { healthy: true }),
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.teardown(() => server.forceShutdown());
  return `127.0.0.1:${port}`;
}

/** A question that is never answered: what it costs is known all the same. */
async function askModel(llmPort: number): Promise<void> {
  const messages = [{ role: 'user', content: 'Why do circuit breakers matter? '.repeat(100) }];
  await fetch(`http://127.0.0.1:${llmPort}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'small', messages }),
  }).catch(() => {});
}

/** A provider that takes requests and says nothing. */
async function startSilentProvider(t: Test): Promise<{ url: string; asked: () => number }> {
  let asked = 0;
  const server = createServer((request) => {
    request.resume();
    request.on('end', () => asked++);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`, asked: () => asked };
}

/** A sidecar whose outbound side calls its own inbound side: each call is seen by both. */
async function startBoth(t: Test, config: Record<string, unknown> = {}) {
  const inbound = `127.0.0.1:${await freePort()}`;
  const app = await startAgent(t);
  const sidecar = await startSidecar(t, {
    name: 'research-agent',
    // Its caller is its own app, through its own outbound side.
    inbound: { listen: inbound, app, allow_call_cycles: true },
    outbound: {
      routes: [{ match: { path_prefix: '/agent.AgentService/' }, cluster: 'research' }],
      clusters: { research: { endpoints: [inbound], balancer: 'ring_hash' } },
    },
    ...config,
  });
  const client = new grpc.Client(`127.0.0.1:${sidecar.outboundPort}`, grpc.credentials.createInsecure());
  t.teardown(() => client.close());
  const run = (task: Task, path = ProcessTask.path, timeoutMs = 60_000): Promise<grpc.status> => {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', 'Bearer s3cret-in-metadata');
    const { requestSerialize, responseDeserialize } = ProcessTask;
    return new Promise((resolve) => {
      client
        .makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          task,
          metadata,
          { deadline: Date.now() + timeoutMs },
          () => {},
        )
        .on('status', ({ code }) => resolve(code));
    });
  };
  return { sidecar, run, inbound, app };
}

async function scrape({ metricsPort }: Sidecar): Promise<Exposition> {
  const response = await fetch(`http://127.0.0.1:${metricsPort}/metrics`);
  if (response.headers.get('content-type') !== 'text/plain; version=0.0.4; charset=utf-8')
    throw new Error(`content-type is ${response.headers.get('content-type')}`);
  return parseExposition(await response.text());
}

/**
 * The page once `holds` is true of one. It is the next page: one is written in pieces, between which calls go on, so
 * that what is said at its end may not have happened yet when its beginning was written.
 */
async function scrapeWhen(
  sidecar: Sidecar,
  what: string,
  holds: (page: Exposition) => boolean,
): Promise<Exposition> {
  await waitUntil(what, async () => holds(await scrape(sidecar)));
  return scrape(sidecar);
}

t.test('both listeners report metrics of real calls', async (t) => {
  const { sidecar, run, inbound, app } = await startBoth(t);
  const before = await scrape(sidecar);
  t.equal(before.value('outrigger_ready'), 1);
  t.ok(before.all('outrigger_tasks_total').length === 6, 'each outcome, before a task has run');
  for (const { value } of before.all('outrigger_tasks_total')) t.equal(value, 0);
  for (const input of ['SUCCESS', 'SUCCESS', 'PARTIAL', 'FAILED']) t.equal(await run({ input }), 0, input);
  t.equal(await run({ input: 'refuse' }), grpc.status.INVALID_ARGUMENT);
  t.equal(await run({ input: 'SUCCESS' }, '/other.Service/Method'), grpc.status.UNIMPLEMENTED);
  const hanging = run({ input: 'hang' }, ProcessTask.path, 3_000);
  const during = await scrapeWhen(
    sidecar,
    'the call is counted',
    (page) => page.value('outrigger_active_calls', { cluster: 'app' }) === 1,
  );
  for (const labels of [{ listener: 'inbound' }, { listener: 'outbound' }, { cluster: 'research' }]) {
    t.equal(during.value('outrigger_active_calls', labels), 1, JSON.stringify(labels));
    t.equal(during.value('outrigger_active_connections', labels), 1, JSON.stringify(labels));
  }
  t.equal(await hanging, grpc.status.DEADLINE_EXCEEDED);
  const after = await scrapeWhen(sidecar, 'the calls have ended', (page) =>
    page.all('outrigger_active_calls').every(({ value }) => value === 0),
  );

  const method = { rpc_method: 'agent.AgentService/ProcessTask' };
  for (const [labels, name] of [
    [method, 'rpc_server_call_duration_seconds_count'],
    [{ ...method, cluster: 'research' }, 'rpc_client_call_duration_seconds_count'],
  ] as const) {
    t.equal(after.value(name, { ...labels, rpc_status_code: 'OK' }), 4, name);
    t.equal(after.value(name, { ...labels, rpc_status_code: 'INVALID_ARGUMENT' }), 1, name);
    // The hop that notices first says DEADLINE_EXCEEDED, and cancels at the other.
    const late = ['DEADLINE_EXCEEDED', 'CANCELLED'].map((code) =>
      after.value(name, { ...labels, rpc_status_code: code }),
    );
    t.equal((late[0] ?? 0) + (late[1] ?? 0), 1, name);
  }
  const attempts = { cluster: 'research', endpoint: inbound };
  t.equal(after.value('outrigger_attempts_total', { ...attempts, code: 'OK' }), 4);
  t.equal(
    after.value('outrigger_attempts_total', { cluster: 'app', endpoint: app, code: 'INVALID_ARGUMENT' }),
    1,
  );
  t.equal(after.value('outrigger_rejected_total', { listener: 'outbound', reason: 'no_route' }), 1);

  const agent = { agent: 'research-agent' };
  const tasks = Object.fromEntries(
    after.all('outrigger_tasks_total').map(({ labels, value }) => [labels['status'], value]),
  );
  t.same(tasks, { SUCCESS: 2, PARTIAL: 1, FAILED: 1, TIMEOUT: 0, ERROR: 2, UNKNOWN: 0 });
  t.equal(after.value('outrigger_tasks_total', { ...agent, status: 'SUCCESS' }), 2);
  t.equal(after.value('outrigger_tokens_total', { ...agent, use: 'useful' }), 30);
  for (const [series, value] of before.samples) {
    const name = series.slice(0, series.indexOf('{'));
    if (before.types.get(name) === 'counter') t.ok(after.samples.get(series)! >= value, series);
  }
});

/** Makes calls as a client without a mind of its own: no retries, no clocks, any header. */
function bareCaller(t: Test, port: number, authority: string) {
  const session = connect(`http://127.0.0.1:${port}`);
  t.teardown(() => session.destroy());
  const message = (task: Task): Buffer => {
    const bytes = ProcessTask.requestSerialize(task);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(bytes.length, 1);
    return Buffer.concat([prefix, bytes]);
  };
  return (task: Task, headers: Record<string, string> = {}) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': ProcessTask.path,
      ':authority': authority,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    let code: number | undefined;
    const take = (fields: Record<string, unknown>): void => {
      if (fields['grpc-status'] !== undefined) code = Number(fields['grpc-status']);
    };
    const ended = new Promise<string>((resolve) => {
      stream.on('response', take).on('trailers', take);
      stream.on('error', () => {}).on('close', () => resolve(grpc.status[code ?? grpc.status.CANCELLED]!));
    });
    stream.resume().end(message(task));
    return { ended, cancel: () => stream.close(8) };
  };
}

/** What `/live` says of its listeners, by name. */
async function liveListeners({ adminPort }: Sidecar) {
  const response = await fetch(`http://127.0.0.1:${adminPort}/live`);
  let text = '';
  for await (const part of response.body!) {
    text += Buffer.from(part).toString();
    const snapshot = /event: snapshot\ndata: (.*)\n\n/.exec(text)?.[1];
    if (snapshot === undefined) continue;
    interface Live {
      listeners: {
        name: string;
        total_requests: number;
        traffic: { last_minute: { calls: number } } | null;
      }[];
    }
    const { listeners } = JSON.parse(snapshot) as Live;
    return Object.fromEntries(listeners.map(({ name, ...listener }) => [name, listener]));
  }
  throw new Error('/live has ended');
}

t.test('every call counts once, with any answer and any end', async (t) => {
  const app = await startAgent(t);
  const limits = { max_header_bytes: 8_192 };
  const sidecar = await startSidecar(t, {
    name: 'research-agent',
    inbound: { app, max_concurrent_calls: 2, queue: { max_calls: 0 }, limits },
    outbound: {
      clusters: { research: { endpoints: [app], limits: { max_concurrent_calls: 1 } } },
    },
  });
  const truth = { server: new Map<string, number>(), client: new Map<string, number>() };
  const scene = (side: keyof typeof truth, port: number, authority: string) => {
    const call = bareCaller(t, port, authority);
    const note = async (ended: Promise<string>): Promise<string> => {
      const code = await ended;
      truth[side].set(code, (truth[side].get(code) ?? 0) + 1);
      return code;
    };
    return {
      ask: (task: Task, headers?: Record<string, string>) => note(call(task, headers).ended),
      hold: (task: Task, headers?: Record<string, string>) => {
        const { ended, cancel } = call(task, headers);
        return { cancel, ended: note(ended) };
      },
      apart: (task: Task, headers?: Record<string, string>) => call(task, headers).ended,
    };
  };
  const inbound = scene('server', sidecar.inboundPort, 'research-agent');
  for (const input of ['SUCCESS', 'PARTIAL', 'FAILED']) t.equal(await inbound.ask({ input }), 'OK');
  t.equal(await inbound.ask({ input: 'refuse' }), 'INVALID_ARGUMENT');
  const twice = { input: 'SUCCESS', task_id: 'the-same-task' };
  t.equal(await inbound.ask(twice), 'OK');
  t.equal(await inbound.ask(twice), 'OK', 'the answer that was kept');
  t.equal(await inbound.ask({ input: '' }, { ':path': '/no.Such/Method' }), 'UNIMPLEMENTED');
  t.equal(await inbound.ask({ input: '' }, { 'grpc-timeout': 'soon' }), 'INVALID_ARGUMENT');
  t.equal(await inbound.ask({ input: '' }, { 'x-long': 'x'.repeat(9_000) }), 'RESOURCE_EXHAUSTED');
  t.equal(await inbound.ask({ input: 'hang' }, { 'grpc-timeout': '100m' }), 'DEADLINE_EXCEEDED');
  const held = [inbound.hold({ input: 'hang' }), inbound.hold({ input: 'hang' })];
  await scrapeWhen(
    sidecar,
    'two calls run',
    (page) => page.value('outrigger_active_calls', { cluster: 'app' }) === 2,
  );
  for (let i = 0; i < 27; i++) t.equal(await inbound.ask({ input: 'SUCCESS' }), 'RESOURCE_EXHAUSTED', 'shed');
  for (const { cancel } of held) cancel();
  for (const { ended } of held) t.equal(await ended, 'CANCELLED');
  const check = { ':path': '/grpc.health.v1.Health/Check' };
  for (let i = 0; i < 3; i++)
    t.equal(await inbound.apart({ input: '' }, check), 'OK', 'answered here, and no call');

  const outbound = scene('client', sidecar.outboundPort, 'research');
  t.equal(await outbound.ask({ input: 'SUCCESS' }), 'OK');
  for (let i = 0; i < 5; i++)
    t.equal(
      await outbound.ask({ input: 'SUCCESS' }, { ':authority': 'nobody' }),
      'UNIMPLEMENTED',
      'no route',
    );
  t.equal(await outbound.ask({ input: '' }, { 'grpc-timeout': '1' }), 'INVALID_ARGUMENT');
  const first = outbound.hold({ input: 'hang' });
  await scrapeWhen(
    sidecar,
    'a call runs',
    (page) => page.value('outrigger_active_calls', { cluster: 'research' }) === 1,
  );
  for (let i = 0; i < 4; i++) t.equal(await outbound.ask({ input: 'SUCCESS' }), 'RESOURCE_EXHAUSTED', 'shed');
  first.cancel();
  t.equal(await first.ended, 'CANCELLED');

  const page = await scrapeWhen(sidecar, 'all calls have ended', (page) =>
    page.all('outrigger_active_calls').every(({ value }) => value === 0),
  );
  const counted = (name: string, keep = (_: Readonly<Record<string, string>>) => true) => {
    const byCode = new Map<string, number>();
    for (const { labels, value } of page.all(`${name}_count`)) {
      const code = labels['rpc_status_code']!;
      if (keep(labels) && value > 0) byCode.set(code, (byCode.get(code) ?? 0) + value);
    }
    return Object.fromEntries([...byCode].sort());
  };
  const sorted = (counts: ReadonlyMap<string, number>) => Object.fromEntries([...counts].sort());
  t.strictSame(counted('rpc_server_call_duration_seconds'), sorted(truth.server));
  t.strictSame(counted('rpc_client_call_duration_seconds'), sorted(truth.client));
  t.strictSame(
    counted('rpc_client_call_duration_seconds', ({ cluster }) => cluster === undefined || cluster === ''),
    { INVALID_ARGUMENT: 1, UNIMPLEMENTED: 5 },
    'without a cluster: those that came to none',
  );
  t.equal(page.value('outrigger_rejected_total', { listener: 'inbound', reason: 'overloaded' }), 27);
  t.equal(page.value('outrigger_rejected_total', { listener: 'outbound', reason: 'overloaded' }), 4);

  const total = (counts: ReadonlyMap<string, number>) =>
    [...counts.values()].reduce((sum, count) => sum + count, 0);
  const stats = (await (await fetch(`http://127.0.0.1:${sidecar.adminPort}/stats`)).json()) as {
    listeners: Record<string, { total_requests: number; methods: Methods }>;
    clusters: Record<string, Methods>;
  };
  const inMethods = (methods: Methods) =>
    Object.values(methods)
      .flatMap((byStatus) => Object.values(byStatus))
      .reduce((sum, { count }) => sum + count, 0);
  t.equal(stats.listeners['inbound']!.total_requests, total(truth.server));
  t.equal(stats.listeners['outbound']!.total_requests, total(truth.client));
  t.equal(inMethods(stats.listeners['inbound']!.methods), total(truth.server));
  const atOutbound = inMethods(stats.listeners['outbound']!.methods) + inMethods(stats.clusters['research']!);
  t.equal(atOutbound, total(truth.client));
  const live = await waitUntil('the last second is in the history', async () => {
    const listeners = await liveListeners(sidecar);
    const { inbound, outbound } = listeners as Record<'inbound' | 'outbound', (typeof listeners)[string]>;
    if (outbound.traffic?.last_minute.calls !== total(truth.client)) return false;
    return { inbound, outbound };
  });
  t.equal(live.inbound.total_requests, total(truth.server));
  t.equal(live.inbound.traffic!.last_minute.calls, total(truth.server));
  t.equal(live.outbound.total_requests, total(truth.client));
});

type Methods = Record<string, Record<string, { count: number }>>;

t.test('a cancelled task counts its model tokens as wasted', async (t) => {
  const provider = await startSilentProvider(t);
  let llmPort = 0;
  const app = await startAgent(t, () => llmPort);
  const sidecar = await startSidecar(t, {
    name: 'research-agent',
    inbound: { app },
    llm: { upstreams: [{ name: 'silent', url: provider.url }] },
  });
  llmPort = sidecar.llmPort;
  const client = new grpc.Client(`127.0.0.1:${sidecar.inboundPort}`, grpc.credentials.createInsecure());
  t.teardown(() => client.close());
  const { path, requestSerialize, responseDeserialize } = ProcessTask;
  const call = client.makeUnaryRequest(
    path,
    requestSerialize,
    responseDeserialize,
    { input: 'ask' },
    () => {},
  );
  await waitUntil('the model was asked', () => provider.asked() === 1);
  const agent = { agent: 'research-agent' };
  const before = await scrape(sidecar);
  t.equal(before.value('outrigger_tokens_total', { ...agent, use: 'wasted' }), 0);
  call.cancel();
  const after = await scrapeWhen(
    sidecar,
    'the task is counted',
    (page) => page.value('outrigger_tasks_total', { ...agent, status: 'ERROR' }) === 1,
  );
  const wasted = after.value('outrigger_tokens_total', { ...agent, use: 'wasted' });
  t.ok(wasted! >= 100, `${wasted} tokens`);
  t.equal(after.value('outrigger_tokens_total', { ...agent, use: 'useful' }), 0);
});

t.test('metrics survive reloads that remove, restore and rename a cluster', async (t) => {
  const { sidecar, run } = await startBoth(t);
  t.equal(await run({ input: 'SUCCESS' }), 0);
  const config = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as {
    outbound: { routes: { match: object; cluster: string }[]; clusters: Record<string, object> };
  };
  const research = config.outbound.clusters['research']!;
  const reload = async (clusters: Record<string, object>) => {
    const routes = Object.keys(clusters).map((cluster) => ({ match: { path_prefix: '/agent' }, cluster }));
    writeFileSync(
      sidecar.configFile,
      JSON.stringify({ ...config, outbound: { ...config.outbound, routes, clusters } }),
    );
    const answer = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
    t.equal(answer.status, 200, await answer.text());
  };
  const calls = async (cluster: string) => {
    const page = await scrape(sidecar);
    return page
      .all('rpc_client_call_duration_seconds_count')
      .find(({ labels }) => labels['cluster'] === cluster && labels['rpc_status_code'] === 'OK')?.value;
  };
  t.equal(await calls('research'), 1);
  await reload({ other: research });
  t.equal(await calls('research'), undefined, 'not shown while it is not there');
  t.equal(await run({ input: 'SUCCESS' }), 0);
  t.equal(await calls('other'), 1);
  await reload({ research });
  t.equal(await run({ input: 'SUCCESS' }), 0);
  t.equal(await calls('research'), 2, 'goes on where it was');
  t.equal(await calls('other'), undefined);
  await reload({ research, other: research });
  await reload({ research });
  t.equal(await calls('research'), 2);
});

t.test('calls on a removed endpoint or cluster are reported with their end', async (t) => {
  const held: (() => void)[] = [];
  const agent = await startUpstream(t, { onCall: (call) => held.push(() => ok(call.stream, call)) });
  const other = await startReplica(t, ok);
  const outbound = (cluster: string, endpoints: string[]) => ({
    routes: [{ match: { path_prefix: '/' }, cluster }],
    clusters: { [cluster]: { endpoints } },
  });
  const sidecar = await startSidecar(
    t,
    { inbound: { app: other.address }, outbound: outbound('research', [agent.address]) },
    { until: 'live' },
  );
  const config = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as { outbound: object };
  const reload = async (cluster: string, endpoints: string[]): Promise<void> => {
    const changed = { ...config, outbound: { ...config.outbound, ...outbound(cluster, endpoints) } };
    writeFileSync(sidecar.configFile, JSON.stringify(changed));
    const answer = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
    t.equal(answer.status, 200, await answer.text());
  };
  const shown = async (): Promise<Record<string, Record<string, number>>> => {
    const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/clusters`);
    const clusters = (await page.json()) as Record<
      string,
      { endpoints: { address: string; active_calls: number }[] }
    >;
    return Object.fromEntries(
      Object.entries(clusters)
        .filter(([name]) => name !== 'app')
        .map(([name, { endpoints }]) => [
          name,
          Object.fromEntries(endpoints.map(({ address, active_calls }) => [address, active_calls])),
        ]),
    );
  };
  const client = new RawClient(t, sidecar.outboundPort);
  const calls = [client.unary(Buffer.from('x')), client.unary(Buffer.from('x'))];
  await waitUntil('the agent has both', () => held.length === 2);
  await reload('research', [other.address]);
  t.strictSame(await shown(), { research: { [agent.address]: 2, [other.address]: 0 } });
  await untilFound(sidecar, 'endpoint_removed', /has been taken out, and calls still run there/);
  held[0]!();
  t.equal((await Promise.race(calls)).code, 0);
  await waitUntil('one runs', async () => (await shown())['research']?.[agent.address] === 1);
  await reload('renamed', [other.address]);
  t.strictSame(await shown(), {
    renamed: { [other.address]: 0 },
    'research (removed)': { [agent.address]: 1 },
  });
  const active = async () =>
    (await scrape(sidecar))
      .all('outrigger_active_calls')
      .filter(({ labels }) => labels['cluster'] !== undefined);
  t.match(
    (await active()).find(({ labels }) => labels['cluster'] === 'research'),
    { value: 1 },
  );
  held[1]!();
  await Promise.all(calls);
  await untilWell(sidecar);
  t.strictSame(await shown(), { renamed: { [other.address]: 0 } });
  const page = await scrape(sidecar);
  const count = (name: string) =>
    page
      .all(name)
      .filter(({ labels }) => labels['cluster'] === 'research' && Object.values(labels).includes('OK'))
      .reduce((sum, { value }) => sum + value, 0);
  t.equal(count('rpc_client_call_duration_seconds_count'), 2, 'each call is counted once');
  t.equal(count('outrigger_attempts_total'), 2);
});

t.test('the access log has attempts, times, bytes, traces, and named headers of a call', async (t) => {
  const { sidecar: agent } = await startBoth(t);
  const dead = `127.0.0.1:${await freePort()}`;
  const sidecar = await startSidecar(
    t,
    {
      outbound: {
        clusters: {
          research: { endpoints: [dead, `127.0.0.1:${agent.inboundPort}`], balancer: 'round_robin' },
        },
      },
      log: { access: true, access_headers: ['x-request-id', 'x-absent'] },
    },
    { until: 'live' },
  );
  const client = new grpc.Client(`127.0.0.1:${sidecar.outboundPort}`, grpc.credentials.createInsecure(), {
    'grpc.default_authority': 'research',
  });
  t.teardown(() => client.close());
  const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
  const metadata = new grpc.Metadata();
  metadata.set('traceparent', `00-${traceId}-00f067aa0ba902b7-00`);
  metadata.set('x-request-id', `r-${'1'.repeat(500)}`);
  metadata.set('x-other', 's3cret-value');
  const { path, requestSerialize, responseDeserialize } = ProcessTask;
  const task = { input: 'SUCCESS', task_id: 'task-7' };
  for (let i = 0; i < 4; i++) {
    await new Promise((resolve) => {
      client
        .makeUnaryRequest(path, requestSerialize, responseDeserialize, task, metadata, () => {})
        .on('status', resolve);
    });
  }
  const stream = definitions['agent.AgentService'] as unknown as Record<'StreamProcess', typeof ProcessTask>;
  await new Promise((resolve) => {
    const { path, requestSerialize, responseDeserialize } = stream.StreamProcess;
    client
      .makeServerStreamRequest(path, requestSerialize, responseDeserialize, task, metadata)
      .on('status', resolve)
      .resume();
  });
  type Line = Record<string, unknown>;
  const lines = await waitUntil('the lines are written', () => {
    const written = sidecar
      .logs()
      .split('\n')
      .filter((line) => line.includes('"log":"access"'))
      .map((line) => JSON.parse(line) as Line);
    return written.length === 5 && written;
  });
  const retried = lines.find(({ attempts }) => attempts === 2)!;
  t.match(retried, { status: 'OK', endpoint: `127.0.0.1:${agent.inboundPort}` });
  t.match(retried['tried'], [
    { endpoint: dead, status: 'UNAVAILABLE' },
    { endpoint: `127.0.0.1:${agent.inboundPort}`, status: 'OK' },
  ]);
  for (const line of lines) {
    t.equal(line['trace_id'], traceId, 'also of a call that is not sampled');
    t.same(line['request_headers'], { 'x-request-id': `r-${'1'.repeat(254)}` }, 'what was asked for, cut');
    t.equal(line['request_bytes'], 5 + requestSerialize(task).length);
    t.equal('tried' in line, (line['attempts'] as number) > 1);
  }
  const unary = lines.filter(({ method }) => method === 'agent.AgentService/ProcessTask');
  for (const { response_bytes } of unary) t.ok((response_bytes as number) > 200_000);
  const streamed = lines.find(({ method }) => method === 'agent.AgentService/StreamProcess')!;
  t.ok((streamed['first_message_ms'] as number) > 0);
  t.ok((streamed['first_message_ms'] as number) <= (streamed['duration_ms'] as number));
  t.notMatch(sidecar.logs(), /s3cret/);
});

t.test('the access log turns on with a reload, and never has content', async (t) => {
  const { sidecar, run, inbound, app } = await startBoth(t, { log: { level: 'warn', access: false } });
  const taskId = '0190c2f1-5a3e-7cc0-8f1e-00000000abcd';
  t.equal(await run({ input: 'SUCCESS', task_id: taskId }), 0);
  const lines = () =>
    sidecar
      .logs()
      .split('\n')
      .filter((line) => line.includes('"log":"access"'))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  // A line would be written within a turn of the event loop or two.
  await sleep(200);
  t.same(lines(), [], 'nothing while it is off');

  const config = JSON.parse(readFileSync(sidecar.configFile, 'utf8')) as { log: object };
  writeFileSync(sidecar.configFile, JSON.stringify({ ...config, log: { level: 'warn', access: true } }));
  const reload = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
  t.equal(reload.status, 200, await reload.text());
  t.equal(await run({ input: 'PARTIAL', task_id: taskId }), 0);
  t.equal(await run({ input: 'refuse' }), grpc.status.INVALID_ARGUMENT);
  t.equal(
    await run({ input: 's3cret-input' }, '/other.Service/Method?key=s3cret'),
    grpc.status.UNIMPLEMENTED,
  );
  t.equal(await run({ input: '' }, `/${'long'.repeat(300)}`), grpc.status.UNIMPLEMENTED);
  const written = await waitUntil('six lines are written', () => lines().length >= 6 && lines());
  t.equal(written.length, 6, 'two of each call that went through both listeners, one of the others');
  const [atInbound, atOutbound] = written as [Record<string, unknown>, Record<string, unknown>];
  const common = { level: 'info', name: 'research-agent', method: 'agent.AgentService/ProcessTask' };
  t.match(atInbound, {
    ...common,
    listener: 'inbound',
    status: 'OK',
    attempts: 1,
    cluster: 'app',
    endpoint: app,
  });
  t.match(atOutbound, {
    ...common,
    listener: 'outbound',
    status: 'OK',
    cluster: 'research',
    endpoint: inbound,
  });
  t.equal(atOutbound['task_id'], taskId);
  t.type(atOutbound['duration_ms'], 'number');
  t.ok((atOutbound['duration_ms'] as number) >= 0 && (atOutbound['duration_ms'] as number) < 10_000);
  t.equal('reason' in atOutbound, false, "no reason when the answer was the app's");
  t.match(written[4], {
    status: 'UNIMPLEMENTED',
    reason: 'no_route',
    method: 'other.Service/Method',
    attempts: 0,
  });
  t.equal(written[5]!['method'], 'long'.repeat(64), 'cut at 256 characters');
  t.notMatch(sidecar.logs(), /s3cret/);
});
