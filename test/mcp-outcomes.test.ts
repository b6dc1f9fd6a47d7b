// What becomes of calls with an effect when a connection breaks: the effect happens once, or is said to be unknown, never twice.
import t, { type Test } from 'tap';
import { startMcp } from '../scripts/harness/mcp-listener.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startCutter } from './support/cutter.ts';
import { type CountingServer, startCounting } from './support/mcp-server.ts';
import { ask, breakOff, callTool, reasonOf, type Said, TestRuns } from './support/mcp-tasks.ts';

t.setTimeout(180_000);

const isUnknown = (said: Said): boolean => reasonOf(said) === 'outcome_unknown' || unknownText(said);
const unknownText = ({ result }: Said): boolean =>
  result?.isError === true && /outcome of this call is unknown/.test(result.content[0]!.text);
const isDone = ({ result }: Said): boolean => result?.isError !== true && result !== undefined;

/** So many wires are cut at a time. */
const LANES = 6;

/** Cuts each wire at each LANES-th byte, and calls again in the next run of the task; ends behind the last byte. */
async function cutLane(t: Test, server: CountingServer, from: 'client' | 'server', lane: number) {
  const cutter = await startCutter(t, server.port);
  const runs = new TestRuns();
  // A connection for each call: the cut is that of the first one.
  const tools = { url: `http://${cutter.address}/mcp`, headers: { connection: 'close' } };
  const mcp = await startMcp(
    { servers: { tools }, circuit_breaker: { failure_percent: 0 } },
    { ownerCalls: runs },
  );
  t.teardown(() => mcp.close());
  const url = mcp.url('tools');
  const wrong: string[] = [];
  const seen = { bytes: 0, done: 0, unknown: 0, replayed: 0 };
  for (let atByte = lane; ; atByte += LANES) {
    const args = { n: atByte };
    const [first, second, task] = [`${atByte}-a`, `${atByte}-b`, `task ${atByte}`];
    const before = cutter.cuts;
    cutter.next = { from, atByte };
    runs.begin(first, task);
    const said = await callTool(url, 'write', args, { 'x-run': first });
    const effects = server.effects.of('write', args);
    if (!isDone(said) && !isUnknown(said)) wrong.push(`${atByte}: ${JSON.stringify(said)}`);
    if (isDone(said) && effects !== 1) wrong.push(`${atByte}: done, and ${effects} effects`);
    runs.lose(first);
    runs.begin(second, task);
    const again = await callTool(url, 'write', args, { 'x-run': second });
    if (again.headers.get('outrigger-journal') === 'replayed') seen.replayed++;
    if (isUnknown(said) !== isUnknown(again))
      wrong.push(`${atByte}: ${isUnknown(said)} and ${isUnknown(again)}`);
    if (server.effects.of('write', args) > 1) wrong.push(`${atByte}: two effects`);
    if (isUnknown(said)) seen.unknown++;
    else seen.done++;
    if (cutter.cuts === before) break;
    seen.bytes++;
  }
  t.same(wrong, []);
  t.ok(seen.bytes > 25 && seen.unknown > 20 && seen.done > 0, JSON.stringify(seen));
  t.equal(seen.replayed, seen.done, 'the run after gets the answer that there was');
  await waitUntil('nothing is left', () => mcp.listener.activeRequests === 0);
}

const cuts = [
  ['client', 'json', 'the request'],
  ['server', 'json', 'a plain answer'],
  ['server', 'sse', 'an answer in events'],
] as const;
for (const [from, answers, what] of cuts)
  t.test(`a write call is cut at each byte of ${what}`, async (t) => {
    const server = await startCounting(t, { answers });
    await Promise.all(Array.from({ length: LANES }, (_, lane) => cutLane(t, server, from, lane)));
  });

t.test('an agent breaks off at each byte, and its next run calls again', async (t) => {
  const server = await startCounting(t, {});
  const runs = new TestRuns();
  const mcp = await startMcp({ servers: { tools: { url: server.url } } }, { ownerCalls: runs });
  t.teardown(() => mcp.close());
  const url = mcp.url('tools');
  const wrong: string[] = [];
  for (const side of ['sends', 'reads'] as const)
    for (let at = 1; ; at += side === 'sends' ? 7 : 1) {
      const args = { [side]: at };
      const [first, second] = [`${side} ${at} a`, `${side} ${at} b`];
      runs.begin(first, first);
      const more = await breakOff(url, 'write', args, { 'x-run': first }, { [side]: at });
      await waitUntil('the egress has seen it', () => mcp.listener.activeRequests === 0);
      runs.lose(first);
      runs.begin(second, first);
      const again = await callTool(url, 'write', args, { 'x-run': second });
      const effects = server.effects.of('write', args);
      if (effects > 1) wrong.push(`${side} ${at}: ${effects} effects`);
      if (!isDone(again) && !isUnknown(again)) wrong.push(`${side} ${at}: ${JSON.stringify(again)}`);
      if (isDone(again) && effects !== 1) wrong.push(`${side} ${at}: done, and ${effects} effects`);
      if (!more) break;
    }
  t.same(wrong, []);
});

t.test('what may run twice is sent again where the operator trusts the hints', async (t) => {
  const server = await startCounting(t, {});
  const cutter = await startCutter(t, server.port);
  const url = `http://${cutter.address}/mcp`;
  const mcp = await startMcp({
    servers: { trusted: { url, trust_hints: true }, tools: { url } },
    circuit_breaker: { failure_percent: 0 },
    retry: { backoff: { base: '1ms', max: '2ms' } },
  });
  t.teardown(() => mcp.close());
  const cutAnswer = async (name: string, tool: string, args: object): Promise<Said> => {
    cutter.drop();
    await waitUntil('the wire is free', () => cutter.open === 0);
    cutter.next = { from: 'server', atByte: 20 };
    return callTool(mcp.url(name), tool, args);
  };
  t.ok(isUnknown(await cutAnswer('trusted', 'read', { n: 0 })), 'nothing is known of the tool yet');
  for (const name of ['trusted', 'tools']) await ask(mcp.url(name), 'tools/list');
  for (const tool of ['read', 'put']) {
    const said = await cutAnswer('trusted', tool, { n: 1 });
    t.match(said.result, { content: [{ text: `${tool} 2` }] });
    t.equal(said.headers.get('outrigger-attempts'), '2');
    t.ok(isUnknown(await cutAnswer('tools', tool, { n: 2 })), 'the hints of this server are not trusted');
    t.equal(server.effects.of(tool, { n: 2 }), 1);
  }
  t.ok(isUnknown(await cutAnswer('trusted', 'write', { n: 1 })), 'the tool says nothing of itself');
  t.equal(server.effects.of('write', { n: 1 }), 1);

  cutter.refuse();
  cutter.drop();
  await waitUntil('the wire is free', () => cutter.open === 0);
  const calling = callTool(mcp.url('tools'), 'write', { n: 3 });
  const refused = await calling;
  t.equal(reasonOf(refused), 'connect_failed');
  t.match(refused.result, { isError: true, content: [{ text: /nothing was sent/ }] });
  t.equal(refused.headers.get('outrigger-attempts'), '3', 'what was not sent is sent again');
  await cutter.accept();
});

t.test('a call that is made again joins, is replayed, or is another one', async (t) => {
  const server = await startCounting(t, {});
  const runs = new TestRuns();
  const mcp = await startMcp({ servers: { tools: { url: server.url } } }, { ownerCalls: runs });
  t.teardown(() => mcp.close());
  const url = mcp.url('tools');
  runs.begin('one', 'task');
  const named = { 'x-run': 'one', 'idempotency-key': 'k' };
  const both = [callTool(url, 'slow', {}, named), callTool(url, 'slow', {}, named)];
  await waitUntil('the tool runs', () => server.effects.slow === 1);
  await waitUntil('both are here', () => mcp.listener.activeRequests === 2);
  server.effects.finishSlow();
  for (const said of await Promise.all(both)) t.match(said.result, { content: [{ text: 'slow' }] });
  t.equal(server.effects.of('slow'), 1, 'the second one joined');
  const third = await callTool(url, 'slow', {}, named);
  t.equal(third.headers.get('outrigger-journal'), 'replayed');

  const first = await callTool(url, 'write', { a: 1, b: 2 }, { 'x-run': 'one' });
  const next = await callTool(url, 'write', { b: 2, a: 1 }, { 'x-run': 'one' });
  t.match(
    [first, next],
    [{ result: { content: [{ text: 'write 1' }] } }, { result: { content: [{ text: 'write 1' }] } }],
  );
  t.equal(
    server.effects.of('write', { a: 1, b: 2 }) + server.effects.of('write', { b: 2, a: 1 }),
    2,
    'the model wants it twice',
  );
  runs.lose('one');
  runs.begin('two', 'task');
  for (const expected of [1, 2]) {
    const said = await callTool(url, 'write', { a: 1, b: 2 }, { 'x-run': 'two' });
    t.equal(
      said.headers.get('outrigger-journal'),
      'replayed',
      `call ${expected} has its answer of the run before`,
    );
  }
  t.match(await callTool(url, 'write', { a: 1, b: 2 }, { 'x-run': 'two' }), {
    result: { content: [{ text: 'write 2' }] },
  });
  runs.begin('other', 'other task');
  t.match(await callTool(url, 'write', { a: 1, b: 2 }, { 'x-run': 'other' }), {
    result: { content: [{ text: 'write 3' }] },
  });
});
