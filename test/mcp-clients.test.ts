// Official clients and servers of MCP, unchanged, on both sides of the egress: at each revision, with plain answers and events.
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { startMcp } from '../scripts/harness/mcp-listener.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { startCutter } from './support/cutter.ts';
import { earlier, modern } from './support/mcp-clients.ts';
import { startCounting } from './support/mcp-server.ts';

const skip = skipWithout('mcp-node', 'mcp-node-v1', 'mcp-python');
const python = (name: string) => join(import.meta.dirname, 'support', 'python', name);

interface PythonState {
  readonly writes: Record<string, number>;
  readonly slow: number;
  readonly cancelled: number;
}

/** The official Python server, with an event store. */
async function startPythonServer(t: Test) {
  const server = startProcess(t, requireTool('mcp-python'), [python('mcp_server.py')]);
  await waitUntil('the server listens', () => server.logs().includes('"port"'));
  const origin = `http://127.0.0.1:${/"port": (\d+)/.exec(server.logs())![1]}`;
  return {
    url: `${origin}/mcp`,
    port: Number(new URL(origin).port),
    state: async () => (await (await fetch(`${origin}/state`)).json()) as PythonState,
    finish: () => fetch(`${origin}/finish`, { method: 'POST' }),
  };
}

t.test('Python clients and servers work with each other and with TypeScript', { skip }, async (t) => {
  const py = await startPythonServer(t);
  const today = await startCounting(t, { answers: 'sse' });
  const sessions = await startCounting(t, { kind: 'sessions', answers: 'sse', resumable: true });
  const mcp = await startMcp({
    servers: { py: { url: py.url }, today: { url: today.url }, sessions: { url: sessions.url } },
  });
  t.teardown(() => mcp.close());
  const target = (name: string, to: string, mode: string, more: object = {}) => ({
    name,
    url: mcp.url(to).href,
    mode,
    ...{ sends: false, changes: false, forgets: false, ...more },
  });
  const targets = [
    target('py auto', 'py', 'auto'),
    target('py legacy', 'py', 'legacy', { sends: true, changes: true }),
    target('today auto', 'today', 'auto'),
    target('sessions legacy', 'sessions', 'legacy', { changes: true, forgets: true }),
  ];
  const client = startProcess(t, requireTool('mcp-python'), [
    python('mcp_egress_client.py'),
    JSON.stringify(targets),
  ]);
  const typescript = Object.entries({ modern, ...earlier }).map(async ([name, connect]) => {
    const client = await connect(mcp.url('py'));
    t.match(await client.tools(), ['write', 'steps', 'ask']);
    t.match(await client.call('write', { n: name }), { content: [{ text: 'write 1' }] });
    const steps: (string | undefined)[] = [];
    await client.call('steps', {}, { onprogress: ({ message }) => steps.push(message) });
    t.same(steps, ['step 1', 'step 2'], `progress streams to ${name}`);
    if (name !== 'modern') t.match(await client.call('ask'), { content: [{ text: 'hello you' }] });
    const ending = new AbortController();
    let runs = false;
    const slow = client.call('slow', {}, { signal: ending.signal, onprogress: () => (runs = true) });
    await waitUntil(`the tool runs for ${name}`, () => runs);
    ending.abort();
    await t.rejects(slow);
    if (name !== 'modern') await client.terminate();
    await client.close();
  });
  await Promise.all(typescript);
  t.equal(await client.ended, 0, client.logs());
  const seen = JSON.parse(client.logs().slice(client.logs().lastIndexOf('{"py auto"')));
  for (const { name, mode } of targets) {
    t.match(seen[name], { write: 'write 1', progress: ['step 1', 'step 2'], cancelled: true }, name);
    t.equal(seen[name].revision, mode === 'auto' ? '2026-07-28' : '2025-11-25');
    if (mode === 'legacy')
      t.match(seen[name], { ask: 'hello you', changes: 1 }, `${name}: the server speaks`);
  }
  t.equal(seen['py legacy'].sample, 'the model said word');
  t.match(seen['sessions legacy'].forgotten, /[Ss]ession|404/, 'a session that is gone is said to be gone');
  for (const { effects } of [today, sessions])
    await waitUntil('the server has heard of the cancel', () => effects.cancelled > 0);
  // Six clients, of which each has cancelled one.
  await waitUntil('all calls are cancelled', async () => (await py.state()).cancelled === 6);
  const { writes } = await py.state();
  t.same([...new Set(Object.values(writes))], [1], 'each effect has happened once');
  await waitUntil('nothing is left', () => mcp.listener.activeRequests === 0);
});

t.test('streams that break off in the middle are resumed', { skip }, async (t) => {
  const py = await startPythonServer(t);
  const ts = await startCounting(t, { kind: 'sessions', answers: 'sse', resumable: true });
  const scenes = Object.entries({ py, ts }).flatMap(([name, server]) =>
    Object.entries(earlier).flatMap(([client, connect]) =>
      (['server', 'agent'] as const).map((side) => ({ name, server, client, connect, side })),
    ),
  );
  const running = scenes.map(async ({ name, server, client: title, connect, side }) => {
    const toServer = await startCutter(t, server.port);
    const mcp = await startMcp({ servers: { tools: { url: `http://${toServer.address}/mcp` } } });
    t.teardown(() => mcp.close());
    const url = mcp.url('tools');
    const toAgent = await startCutter(t, Number(url.port));
    const wire = side === 'server' ? toServer : toAgent;
    const what = `${title}, ${name}, cut before the ${side}`;
    const client = await connect(new URL(`http://${toAgent.address}${url.pathname}`));
    let changes = 0;
    client.onToolsChanged = () => changes++;
    await waitUntil(`${what}: the stream of the server is open`, () => mcp.listener.stats.streams === 1);
    await client.call('change');
    await waitUntil(`${what}: the stream works`, () => changes === 1);
    let runs = false;
    const slow = client.call('slow', {}, { onprogress: () => (runs = true) });
    await waitUntil(`${what}: the tool runs`, () => runs);
    // Both the stream of the call and that of the server.
    wire.drop();
    // The Python server refuses a stream of the server while it has not noticed that the one before is gone.
    if (name === 'ts') {
      await waitUntil(`${what}: the streams come again`, () => mcp.listener.stats.streams === 2);
      await client.call('change');
      await waitUntil(`${what}: the stream of the server works again`, () => changes === 2);
    } else await waitUntil(`${what}: a stream comes again`, () => mcp.listener.stats.streams > 0);
    return { what, slow, client, mcp };
  });
  const cut = await Promise.all(running);
  await py.finish();
  ts.effects.finishAll();
  for (const { what, slow } of cut) t.match(await slow, { content: [{ text: 'slow' }] }, what);
  t.equal(ts.effects.slow + (await py.state()).slow, scenes.length, 'no call was made twice');
  t.equal(ts.effects.cancelled + (await py.state()).cancelled, 0, 'no call was cancelled');
  for (const { client, mcp, what } of cut) {
    await client.terminate();
    await client.close();
    await waitUntil(`${what}: nothing is left`, () => mcp.listener.activeRequests === 0);
  }
});

for (const answers of ['json', 'sse'] as const) {
  t.test(`a client of 2026-07-28 calls tools, with ${answers}`, { skip }, async (t) => {
    const server = await startCounting(t, { answers });
    const mcp = await startMcp({ servers: { tools: { url: server.url } } });
    t.teardown(() => mcp.close());
    const client = await modern(mcp.url('tools'));
    t.equal(client.revision(), '2026-07-28');
    t.match(await client.tools(), ['write', 'put', 'read']);
    t.match(await client.call('write', { n: 1 }), { content: [{ text: 'write 1' }], isError: false });
    t.match(await client.call('fail'), { content: [{ text: 'it failed' }], isError: true });
    if (answers === 'sse') {
      const steps: (string | undefined)[] = [];
      await client.call('steps', {}, { onprogress: ({ message }) => steps.push(message) });
      t.same(steps, ['step 1', 'step 2']);
    }
    const ending = new AbortController();
    const slow = client.call('slow', {}, { signal: ending.signal });
    await waitUntil('the tool runs', () => server.effects.slow === 1);
    ending.abort();
    await t.rejects(slow);
    await waitUntil('the server has heard of the cancel', () => server.effects.cancelled > 0);
    t.equal(server.effects.of('write', { n: 1 }), 1);
    await client.close();
    await waitUntil('nothing is left', () => mcp.listener.activeRequests === 0);
  });

  for (const [name, connect] of Object.entries(earlier)) {
    t.test(`${name} keeps its session, with ${answers}`, { skip }, async (t) => {
      const server = await startCounting(t, { kind: 'sessions', answers });
      const mcp = await startMcp({ servers: { tools: { url: server.url } } });
      t.teardown(() => mcp.close());
      const client = await connect(mcp.url('tools'));
      let changes = 0;
      client.onToolsChanged = () => changes++;
      await waitUntil('the stream of the server is open', () => mcp.listener.stats.streams === 1);
      t.match(await client.tools(), ['write', 'put', 'read']);
      t.match(await client.call('write', { n: 1 }), { content: [{ text: 'write 1' }] });
      t.match(await client.call('ask'), { content: [{ text: 'hello you' }] }, 'the server asks the client');
      server.changeTools();
      await waitUntil('the client hears of the change', () => changes === 1);
      const ending = new AbortController();
      const slow = client.call('slow', {}, { signal: ending.signal });
      await waitUntil('the tool runs', () => server.effects.slow === 1);
      ending.abort();
      await t.rejects(slow);
      await waitUntil('the server has heard of the cancel', () => server.effects.cancelled > 0);
      server.restart();
      await t.rejects(
        client.call('write', { n: 2 }),
        /404|[Ss]ession/,
        '404 passes, so that the client starts again',
      );
      t.equal(server.effects.of('write', { n: 2 }), 0);
      await client.close();
      const again = await connect(mcp.url('tools'));
      t.match(await again.call('write', { n: 2 }), { content: [{ text: 'write 1' }] });
      t.equal(server.sessions, 1);
      await again.terminate();
      t.equal(server.sessions, 0, 'DELETE ends the session');
      await again.close();
      await waitUntil('nothing is left', () => mcp.listener.activeRequests === 0);
    });
  }
}
