// A sidecar beside an agent that uses the service as its provider: the task's budget and its end reach through both.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { answerWhole, chatAnswer, sendJson } from '../scripts/harness/llm/provider.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { type Sidecar, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { taskRequest } from './support/upstream.ts';

const provider = await providerFor(t);
const path = '/agent.AgentService/ProcessTask';
const KEY = 'sk-research-0123456789';
const folder = mkdtempSync(join(tmpdir(), 'outrigger-through-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));

t.test('budget, cancellation and names of a task reach through sidecar and service', async (t) => {
  let breaks = false;
  const url = provider.script('t-provider', (request, response) => {
    if (request.body.includes('"hang"')) return;
    if (breaks) response.destroy();
    else return answerWhole(request, response);
  });
  const [port, admin, metrics, health] = await Promise.all([freePort(), freePort(), freePort(), freePort()]);
  const keyFile = join(folder, 'key');
  writeFileSync(keyFile, KEY);
  const file = join(folder, 'service.yaml');
  writeFileSync(
    file,
    JSON.stringify({
      llm: {
        listen: `127.0.0.1:${port}`,
        upstreams: [{ name: 'p', url }],
        callers: [{ name: 'research', key_file: keyFile }],
        // A lost answer is asked for again, as long as the budget has room for what the first may have cost.
        circuit_breaker: { failure_percent: 0 },
        retry: { resend: true, backoff: { base: '1ms', max: '2ms' } },
      },
      admin: { listen: `127.0.0.1:${admin}` },
      metrics: { listen: `127.0.0.1:${metrics}` },
      health: { listen: `127.0.0.1:${health}` },
      log: { access: true },
    }),
  );
  const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
  const service = startProcess(t, process.execPath, [main, 'llm', '--config', file], {
    env: { NODE_ENV: 'test' },
  });
  await waitUntil('the service is ready', async () => {
    return (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok;
  });

  let sidecar: Sidecar | undefined;
  const app = await startRawServer(
    t,
    {
      unary: async ({ request }, callback) => {
        const text = request.toString();
        const body = chat({ max_tokens: 200, user: text.includes('hang') ? 'hang' : 'x' });
        const headers = { 'x-task-id': /task-\d+/.exec(text)![0] };
        const root = `http://127.0.0.1:${sidecar!.llmPort}/v1`;
        const answer = await send(root, '/chat/completions', body, headers).answer.catch(() => undefined);
        callback(null, Buffer.from(`${answer?.status} ${answer?.body}`));
      },
    },
    { unaryPath: path },
  );
  sidecar = await startSidecar(
    t,
    {
      inbound: { app: app.address },
      llm: {
        circuit_breaker: { failure_percent: 0 },
        retry: { max_attempts: 1 },
        upstreams: [
          {
            name: 'service',
            kind: 'compatible',
            url: `http://127.0.0.1:${port}/v1`,
            api_key_env: 'THROUGH_KEY',
            is_service: true,
          },
        ],
      },
    },
    { env: { THROUGH_KEY: KEY } },
  );
  const caller = new RawClient(t, sidecar.inboundPort);
  const run = async (id: string, budget?: number): Promise<string> => {
    const metadata = new grpc.Metadata();
    if (budget !== undefined) metadata.set('outrigger-token-budget', String(budget));
    const { response } = await caller.unary(taskRequest({ id, input: 'x' }), { path, metadata });
    return String(response);
  };
  const asked = () => provider.requests('t-provider').length;

  t.match(await run('task-1', 2_000), /^200 /);
  t.equal(asked(), 1);
  const [first] = provider.requests('t-provider');
  t.notMatch(
    JSON.stringify(first?.headers),
    /sk-research|outrigger-/,
    'nothing of ours goes to the provider',
  );

  breaks = true;
  t.match(
    await run('task-2', 2_000),
    /^429 .*budget_exhausted/,
    'the service resends no more than is reserved',
  );
  // A kept connection that is lost within a moment is not counted as an attempt, once.
  const ofTask2 = asked() - 1;
  t.ok(ofTask2 <= 2, `${ofTask2} requests`);
  t.match(await run('task-3'), /^502 /);
  t.ok(asked() - 1 - ofTask2 > ofTask2, 'without a budget it does resend');
  breaks = false;

  const call = caller.client.makeUnaryRequest(
    path,
    (value: Buffer) => value,
    (value: Buffer) => value,
    taskRequest({ id: 'task-4', input: 'hang' }),
    () => {},
  );
  const hanging = await waitUntil('the provider has the request', () =>
    provider.requests('t-provider').find(({ body }) => body.includes('"hang"')),
  );
  t.notOk(hanging.aborted);
  call.cancel();
  await waitUntil('the provider sees that it is cancelled', () => hanging.aborted);

  await waitUntil('the service has logged the caller and the task', () =>
    /"task_id":"task-1","caller":"research"/.test(service.logs()),
  );

  // A key file that is taken away keeps its keys, and that is said until it is back.
  const findings = async (): Promise<string> => {
    const live = await (await fetch(`http://127.0.0.1:${admin}/live?format=json`)).text();
    return JSON.stringify(JSON.parse(live).now.findings);
  };
  t.notMatch(await findings(), /key_file/);
  rmSync(keyFile);
  await waitUntil('a finding names the file', async () => (await findings()).includes('key_file_unusable'));
  t.match(
    await findings(),
    /llm\.callers\.research\.key_file.*its last keys stay in use.*ENOENT.*put it back/,
  );
  t.match(service.logs(), /the file of llm\.callers\.research\.key_file can't be used/);
  t.match(await run('task-5'), /^200 /);
  writeFileSync(keyFile, KEY);
  await waitUntil('it is back', async () => !(await findings()).includes('key_file'));
  t.match(service.logs(), /key_file is in use again/);
  t.notMatch(service.logs(), KEY);
});

type Ids = Readonly<Record<string, string>>;

/** What agents pass on of a call, as OpenTelemetry does. */
function idsIn(metadata: grpc.Metadata): Ids {
  const names = ['traceparent', 'baggage'].filter((name) => metadata.get(name).length > 0);
  return Object.fromEntries(names.map((name) => [name, String(metadata.get(name)[0])]));
}

/** USD for a million tokens; the sidecars know no price of `fast`, which is a name of the service. */
const PRICES = {
  as_of: '2026-11-30',
  prices: [{ models: ['dear'], usd_per_million: { input: 10, output: 20 } }],
};

t.test('three agents and the service spend no more than the money of the task', async (t) => {
  const bill = { nanos: 0, requests: 0, lost: 0 };
  const url = provider.script('t-money', ({ json, body, count }, response) => {
    const output = Number(json?.['max_completion_tokens'] ?? json?.['max_tokens']);
    bill.requests++;
    bill.nanos += body.length * 10_000 + output * 20_000;
    // No connection is kept: one that is lost right after it was idle counts as a request that nobody got.
    response.shouldKeepAlive = false;
    // What an answer has cost that is lost on its way, only the service can tell.
    if (count % 3 === 0) {
      bill.lost++;
      response.socket?.destroy();
      return;
    }
    const usage = { prompt_tokens: body.length, completion_tokens: output };
    sendJson(response, 200, { ...chatAnswer('x'), model: 'dear', usage });
  });
  const folder = t.testdir({ key: KEY, 'prices.yaml': JSON.stringify(PRICES) });
  const prices_file = join(folder, 'prices.yaml');
  const [port, health] = await Promise.all([freePort(), freePort()]);
  const [admin, metrics] = await Promise.all([freePort(), freePort()]);
  const config = join(folder, 'service.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      llm: {
        listen: `127.0.0.1:${port}`,
        prices_file,
        upstreams: [{ name: 'p', url }],
        models: [
          { match: 'fast', use: [{ upstream: 'p', model: 'dear' }] },
          { match: 'dear', use: [{ upstream: 'p' }] },
        ],
        callers: [{ name: 'agents', key_file: join(folder, 'key') }],
        circuit_breaker: { failure_percent: 0 },
        retry: { resend: true, backoff: { base: '1ms', max: '2ms' } },
      },
      admin: { listen: `127.0.0.1:${admin}` },
      metrics: { listen: `127.0.0.1:${metrics}` },
      health: { listen: `127.0.0.1:${health}` },
    }),
  );
  const main = join(import.meta.dirname, '..', 'sidecar', 'main.ts');
  startProcess(t, process.execPath, [main, 'llm', '--config', config], { env: { NODE_ENV: 'test' } });
  await waitUntil('the service is ready', async () => {
    return (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok;
  });

  // An agent forges what it can: on its calls, on its model requests, and in its answers.
  const FORGED = '1000';
  const told: string[] = [];
  interface Agent {
    readonly sidecar: Sidecar;
    /** Has subtasks done, and asks a model, all at once; returns what became of them. */
    readonly work: (task: string, ids: Ids) => Promise<string[]>;
  }
  const startAgent = async ({
    callee,
    calls,
    asks,
    limits = {},
  }: {
    callee?: Agent;
    calls: number;
    asks: number;
    limits?: object;
  }): Promise<Agent> => {
    let outbound: RawClient | undefined;
    const agent: { sidecar?: Sidecar } = {};
    const ask = async (task: string, ids: Ids, at: number): Promise<string> => {
      const body = chat({ model: at % 2 === 0 ? 'fast' : 'dear', max_tokens: 40 });
      const root = `http://127.0.0.1:${agent.sidecar!.llmPort}/v1`;
      const headers = { ...ids, 'outrigger-request-usd': FORGED, 'outrigger-usd-budget': FORGED };
      const answer = await send(root, '/chat/completions', body, { 'x-task-id': task, ...headers }).answer;
      return `${answer.status} ${answer.headers['outrigger-reason'] ?? ''}`.trim();
    };
    const call = async (task: string, ids: Ids): Promise<string[]> => {
      const metadata = new grpc.Metadata();
      for (const [name, value] of Object.entries(ids)) metadata.set(name, value);
      // The last one takes all that is left.
      if (task.endsWith('2')) metadata.set('outrigger-usd-budget', FORGED);
      const request = taskRequest({ id: task, input: 'x' });
      const { response, trailers } = await outbound!.unary(request, { path, metadata });
      told.push(...trailers.get('outrigger-usd-used').map(String));
      return response === undefined ? ['lost'] : (JSON.parse(response.toString()) as string[]);
    };
    const work = async (task: string, ids: Ids): Promise<string[]> => {
      const parts = await Promise.all([
        ...Array.from({ length: asks }, async (_, at) => [await ask(task, ids, at)]),
        ...Array.from({ length: calls }, (_, at) => call(`${task}.${at}`, ids)),
      ]);
      return parts.flat();
    };
    const app = await startRawServer(
      t,
      {
        unary: async ({ request, metadata }, callback) => {
          const task = /task-[\d.]+/.exec(request.toString())![0];
          const trailers = new grpc.Metadata();
          trailers.set('outrigger-usd-used', '0');
          const done = await work(task, idsIn(metadata));
          callback(null, Buffer.from(JSON.stringify(done)), trailers);
        },
      },
      { unaryPath: path },
    );
    const upstream = { kind: 'compatible', api_key_env: 'THROUGH_KEY', is_service: true };
    agent.sidecar = await startSidecar(
      t,
      {
        inbound: { app: app.address },
        llm: {
          prices_file,
          limits,
          circuit_breaker: { failure_percent: 0 },
          upstreams: [{ name: 'service', url: `http://127.0.0.1:${port}/v1`, ...upstream }],
        },
        ...(callee && {
          outbound: {
            routes: [{ match: { path_prefix: '/' }, cluster: 'callee' }],
            clusters: {
              callee: {
                endpoints: [`127.0.0.1:${callee.sidecar.inboundPort}`],
                task: { status_is_verdict: false },
              },
            },
          },
        }),
      },
      { env: { THROUGH_KEY: KEY } },
    );
    outbound = new RawClient(t, agent.sidecar.outboundPort);
    return { sidecar: agent.sidecar, work };
  };
  const leaf = await startAgent({ calls: 0, asks: 2 });
  const middle = await startAgent({ callee: leaf, calls: 3, asks: 1 });
  const root = await startAgent({ callee: middle, calls: 3, asks: 2 });
  const limited = await startAgent({ callee: middle, calls: 3, asks: 2, limits: { usd_per_task: 0.03 } });

  let tasks = 0;
  for (const [{ sidecar }, given] of [
    [root, '0.03'],
    [limited, undefined],
    [limited, '5'],
    [root, '0.3'],
  ] as const) {
    bill.nanos = 0;
    const metadata = new grpc.Metadata();
    if (given !== undefined) metadata.set('outrigger-usd-budget', given);
    const id = `task-${++tasks}`;
    metadata.set('traceparent', `00-${String(tasks).padStart(32, 'b')}-00f067aa0ba902b7-01`);
    const caller = new RawClient(t, sidecar.inboundPort);
    const { response, trailers } = await caller.unary(taskRequest({ id, input: 'x' }), { path, metadata });
    const done = JSON.parse(String(response)) as string[];
    const limit = given === '0.3' ? 300_000_000 : 30_000_000;
    t.ok(bill.nanos <= limit, `${bill.nanos} of ${limit} nano-dollars`);
    t.ok(done.includes('200'), done.join(', '));
    const reports = trailers.get('outrigger-usd-used').map(Number);
    if (given === undefined) t.strictSame(reports, [], 'nobody asked');
    else t.ok(reports[0]! * 1e9 >= bill.nanos, `${reports[0]} USD is all that was billed`);
    if (given !== '0.3') t.ok(done.includes('429 budget_exhausted'), done.join(', '));
  }
  t.ok(bill.lost > 0);
  t.ok(told.length > 0);
  t.ok(
    told.some((usd) => Number(usd) > 0),
    'an agent can not tell that it has used nothing',
  );
});
