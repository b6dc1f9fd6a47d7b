// Three replicas of the service, and budgets that they share: never exceeded, whoever dies and whether or not the bus is there.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { chatAnswer, sendJson } from '../scripts/harness/llm/provider.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startNats } from '../sidecar/bus/nats/test-support/nats-server.ts';
import { chat } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const DAY_MS = 86_400_000;
const provider = await providerFor(t);
// A day must not begin in the middle.
const leftMs = DAY_MS - (Date.now() % DAY_MS);
if (leftMs < 120_000) await sleep(leftMs);
const CALLERS = 50;
const TOKENS_PER_DAY = 1_500;
/** What each answer costs; less than a request reserves. */
const USED = 60;

const folder = mkdtempSync(join(tmpdir(), 'outrigger-replicas-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const nameOf = (index: number) => `caller-${index}`;
const keyOf = (index: number) => `sk-replicas-${index}-0123456789`;

interface Replica {
  readonly port: number;
  readonly process: TestProcess;
}

/** Answers as a provider would that bills {@link USED} tokens; `spent` has what each caller has used. */
function billing(name: string): { url: string; spent: Map<string, number> } {
  const spent = new Map<string, number>();
  const url = provider.script(name, ({ json }, response) => {
    const who = String(json?.['user']);
    spent.set(who, (spent.get(who) ?? 0) + USED);
    const usage = { prompt_tokens: USED - 10, completion_tokens: 10, total_tokens: USED };
    sendJson(response, 200, { ...chatAnswer('x'), usage });
  });
  return { url, spent };
}

async function replicasOf(t: Test, url: string, busUrl: string | undefined, more: object = {}) {
  const file = join(folder, `${url.split('/').at(-2)}.yaml`);
  const callers = Array.from({ length: CALLERS }, (_, index) => ({
    name: nameOf(index),
    key_file: join(folder, `${index}.key`),
    budget: { tokens_per_day: TOKENS_PER_DAY },
  }));
  for (let index = 0; index < CALLERS; index++) writeFileSync(join(folder, `${index}.key`), keyOf(index));
  writeFileSync(
    file,
    JSON.stringify({
      name: 'egress',
      llm: { upstreams: [{ name: 'p', url }], callers, ...more },
      ...(busUrl === undefined ? {} : { bus: { url: busUrl } }),
    }),
  );
  return async (): Promise<Replica> => {
    const [port, admin, metrics, health] = await Promise.all([
      freePort(),
      freePort(),
      freePort(),
      freePort(),
    ]);
    const started = startProcess(
      t,
      process.execPath,
      [
        join(import.meta.dirname, '..', 'sidecar', 'main.ts'),
        'llm',
        '--config',
        file,
        `--llm.listen=127.0.0.1:${port}`,
        `--admin.listen=127.0.0.1:${admin}`,
        `--metrics.listen=127.0.0.1:${metrics}`,
        `--health.listen=127.0.0.1:${health}`,
      ],
      { env: { NODE_ENV: 'test' } },
    );
    const ready = async () => (await fetch(`http://127.0.0.1:${health}/healthz/ready`)).ok;
    await waitUntil('a replica is ready', ready).catch((error: unknown) => {
      throw new Error(started.logs(), { cause: error });
    });
    return { port, process: started };
  };
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 });
t.teardown(() => agent.destroy());

/** @returns the status and the reason; 0 where the replica is gone */
function ask({ port }: Replica, index: number): Promise<{ status: number; reason: string; text: string }> {
  return new Promise((resolve) => {
    const request = httpRequest({
      port,
      path: '/v1/chat/completions',
      method: 'POST',
      agent,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${keyOf(index)}` },
    });
    const gone = () => resolve({ status: 0, reason: 'gone', text: '' });
    request.on('error', gone);
    request.on('response', (response) => {
      let text = '';
      response.on('data', (part) => {
        text += part;
      });
      response.on('error', gone);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          reason: String(response.headers['outrigger-reason'] ?? ''),
          text,
        }),
      );
    });
    request.end(chat({ max_tokens: 10, user: nameOf(index) }));
  });
}

/** A caller asks one replica after the other, until each has refused. @returns what the refusals said */
async function spendAll(replicas: readonly Replica[], index: number): Promise<Set<string>> {
  const reasons = new Set<string>();
  const left = new Set(replicas);
  while (left.size > 0)
    for (const replica of [...left]) {
      const { status, reason } = await ask(replica, index);
      if (status === 200) continue;
      left.delete(replica);
      reasons.add(reason);
    }
  return reasons;
}

t.test('fifty callers spend no more than their days at three replicas, of which one is killed', async (t) => {
  const { url, spent } = billing('r-file');
  const start = await replicasOf(t, url, `file:${join(folder, 'bus', 'tasks.db')}`);
  const replicas = await Promise.all([start(), start(), start()]);
  const [dying] = replicas as [Replica, Replica, Replica];
  const spending = Array.from({ length: CALLERS }, (_, index) => spendAll(replicas, index));
  await waitUntil('all have begun', () => spent.size === CALLERS);
  dying.process.kill('SIGKILL');
  await Promise.all(spending);
  const anew = await start();
  const reasons = await Promise.all(
    Array.from({ length: CALLERS }, (_, index) => spendAll([anew, replicas[1]!, replicas[2]!], index)),
  );
  t.strictSame([...new Set(reasons.flatMap((each) => [...each]))], ['budget_exhausted']);
  t.equal(spent.size, CALLERS);
  for (const [name, tokens] of spent)
    t.ok(tokens <= TOKENS_PER_DAY && tokens >= TOKENS_PER_DAY / 2, `${name} has used ${tokens}`);
});

t.test(
  'what was leased may be used while the bus is away, and no more; what is unused comes back',
  async (t) => {
    const nats = await startNats(t);
    const { url, spent } = billing('r-nats');
    const start = await replicasOf(t, url, `nats://${nats.address}`);
    const [one, other] = (await Promise.all([start(), start()])) as [Replica, Replica];
    t.equal((await ask(one, 0)).status, 200);
    await nats.kill();
    const reasons = await spendAll([one, other], 0);
    t.strictSame([...reasons], ['limits_unavailable']);
    t.match(await ask(other, 1), { status: 503, text: /bus that shares the budget.*can't be reached/ });
    t.ok(spent.get(nameOf(0))! <= TOKENS_PER_DAY / 5, `${spent.get(nameOf(0))} of the slice`);
    await nats.restart();
    await waitUntil('the budget is there again', async () => (await ask(other, 1)).status === 200);
    one.process.kill('SIGTERM');
    t.equal(await one.process.ended, 0);
    await spendAll([other], 0);
    const used = spent.get(nameOf(0))!;
    t.ok(used <= TOKENS_PER_DAY && used > TOKENS_PER_DAY - 200, `${used}: a drained replica keeps nothing`);
  },
);

t.test('without a bus each replica has its part of the number in the configuration', async (t) => {
  const { url, spent } = billing('r-parts');
  const start = await replicasOf(t, url, undefined, { replicas: 3 });
  const one = await start();
  t.strictSame([...(await spendAll([one], 0))], ['budget_exhausted']);
  const used = spent.get(nameOf(0))!;
  t.ok(used <= TOKENS_PER_DAY / 3 && used > TOKENS_PER_DAY / 3 - 150, `${used} of a third`);
  t.match((await ask(one, 0)).text, /the caller caller-0 has used its 1500 tokens of this day/);
});
