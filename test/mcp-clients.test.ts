// Official clients and servers of MCP, unchanged, on both sides of the egress: at each revision, with plain answers and events.
import t from 'tap';
import { startMcp } from '../scripts/harness/mcp-listener.ts';
import { skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { earlier, modern } from './support/mcp-clients.ts';
import { startCounting } from './support/mcp-server.ts';

const skip = skipWithout('mcp-node', 'mcp-node-v1');

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
