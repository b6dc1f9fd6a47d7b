// The limits of one upstream, and of one model: who waits, who is next, and who goes elsewhere.
import type { ServerResponse } from 'node:http';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import { answerWhole, type ProviderRequest } from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { chat, send } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

/** A provider that answers when the test says so. */
function holding(name: string) {
  const held: { user: string; answer: () => void }[] = [];
  const url = provider.script(name, (request: ProviderRequest, response: ServerResponse) => {
    held.push({ user: String(request.json?.['user']), answer: () => answerWhole(request, response) });
  });
  return { url, held, users: () => provider.requests(name).map(({ json }) => json?.['user']) };
}

async function start(t: Test, llm: object) {
  const egress = await startEgress(llm);
  t.teardown(() => egress.close());
  const root = egress.baseUrl.replace(/\/v1$/, '');
  return {
    ...egress,
    ask: (task: string, user: string, more: object = {}) =>
      send(root, '/v1/chat/completions', chat({ user, ...more }), { 'x-task-id': task }),
    waits: (count: number) =>
      waitUntil(`${count} wait`, () => egress.listener.egress?.waitingForLimits === count),
  };
}

t.test(
  'requests wait for an upstream in turns of their callers, and one that leaves takes no place',
  async (t) => {
    const { url, held, users } = holding('l-turns');
    const { ask, waits, listener } = await start(t, {
      upstreams: [{ name: 'p', url, limits: { concurrent: 2, max_waiting: 5 } }],
    });
    const flood = [];
    for (let i = 0; i < 2; i++) flood.push(ask('flood', `f${i}`));
    await waitUntil('two run', () => held.length === 2);
    for (let i = 2; i < 5; i++) {
      flood.push(ask('flood', `f${i}`));
      await waits(i - 1);
    }
    const late = ask('late', 'l0');
    await waits(4);
    const leaving = ask('leaving', 'x0');
    await waits(5);
    const full = await ask('late', 'l1').answer;
    t.match(full, { status: 429, headers: { 'outrigger-reason': 'rate_limited' } });
    t.match(full.body.toString(), /the limits of the upstream p \(llm\.upstreams\[\]\.limits\)/);
    t.ok(Number(full.headers['retry-after']) >= 1);
    leaving.abort();
    await waits(4);
    for (let served = 0; served < 6; served++) {
      await waitUntil('one runs', () => held.length > served);
      held[served]!.answer();
    }
    for (const one of [...flood, late]) t.equal((await one.answer).status, 200);
    t.ok(users().indexOf('l0') <= 3, `the caller with one request is next: ${users()}`);
    t.notOk(users().includes('x0'));
    t.equal(listener.egress?.waiting, 0);
  },
);

t.test('a full upstream is passed over while another place of the chain is free', async (t) => {
  const one = holding('l-one');
  const other = holding('l-other');
  const { ask, waits } = await start(t, {
    upstreams: [
      { name: 'one', url: one.url, limits: { concurrent: 1 } },
      { name: 'other', url: other.url, limits: { concurrent: 1 } },
    ],
  });
  const asked = [ask('a', '1')];
  await waitUntil('the first runs', () => one.held.length === 1);
  asked.push(ask('b', '2'));
  await waitUntil('the second runs elsewhere', () => other.held.length === 1);
  asked.push(ask('c', '3'));
  await waits(1);
  one.held[0]!.answer();
  await waitUntil('the third had waited for the first', () => one.held.length === 2);
  one.held[1]!.answer();
  other.held[0]!.answer();
  for (const { answer } of asked) t.equal((await answer).status, 200);
});

t.test('a model has limits of its own, a minute of them too, and a reload changes them', async (t) => {
  const { url, held } = holding('l-model');
  const llm = (concurrent: number) => ({
    upstreams: [{ name: 'p', url }],
    models: [
      { match: 'slow', use: [{ upstream: 'p' }], limits: { concurrent } },
      { match: 'rare', use: [{ upstream: 'p' }], limits: { requests_per_minute: 1 } },
    ],
    limits: { max_wait: '1s' },
  });
  const { ask, waits, apply } = await start(t, llm(1));
  const asked = [ask('a', '1', { model: 'slow' })];
  await waitUntil('the first runs', () => held.length === 1);
  asked.push(ask('a', '2', { model: 'slow' }));
  await waits(1);
  apply(llm(2));
  await waitUntil('both run', () => held.length === 2);
  for (const { answer } of held) answer();
  for (const { answer } of asked) t.equal((await answer).status, 200);

  const rare = ask('a', '3', { model: 'rare' });
  await waitUntil('it runs', () => held.length === 3);
  const refused = await ask('a', '4', { model: 'rare' }).answer;
  t.match(refused, { status: 429, headers: { 'outrigger-reason': 'rate_limited' } });
  t.match(refused.body.toString(), /llm\.models\[\]\.limits/);
  t.ok(Number(refused.headers['retry-after']) > 30, 'a request a minute is 60 s apart');
  held[2]!.answer();
  t.equal((await rare.answer).status, 200);
});
