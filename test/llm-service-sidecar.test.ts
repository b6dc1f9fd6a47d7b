// A sidecar beside an agent that uses the service as its provider: the task's budget and its end reach through both.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { answerWhole } from '../scripts/harness/llm/provider.ts';
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
});
