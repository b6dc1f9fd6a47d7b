// An agent sends heads of requests to models that are as large as they may be, all at once: of as many requests as run at a time, of requests
// ahead of others' answers, and heads without an end on as many connections as there may be.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { startScene } from './scene.ts';

t.setTimeout(240_000);

const ATTACK_MS = 4_000;
const BODY = JSON.stringify({ model: 'm', messages: [{ role: 'user', content: 'hello' }] });

/** Node counts some ten bytes more for each of them. */
const fields = (bytes: number, count: number): string => {
  const value = 'v'.repeat(Math.floor(bytes / count) - 10);
  return Array.from({ length: count }, (_, at) => `x-${String(at).padStart(4, '0')}: ${value}\r\n`).join('');
};
const START = 'POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n';
const request = (more: string): string => `${START}${more}content-length: ${BODY.length}\r\n\r\n${BODY}`;

const ATTACKS: Readonly<Record<string, { connections: number; bytes: string }>> = {
  '1,000 requests with one large field': { connections: 1_000, bytes: request(fields(64_000, 1)) },
  '1,000 requests with 400 fields': { connections: 1_000, bytes: request(fields(60_000, 400)) },
  'requests ahead of an answer on 100 connections': {
    connections: 100,
    bytes: request(fields(60_000, 400)).repeat(64),
  },
  'heads without an end on 4,000 connections': {
    connections: 4_000,
    bytes: START + fields(60_000, 400),
  },
};

/** It never answers. */
async function startProvider(t: Test): Promise<string> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).resume();
  });
  await new Promise<void>((resolve) =>
    server.listen({ port: 0, host: '127.0.0.1', backlog: 4_096 }, resolve),
  );
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
}

for (const [name, { connections, bytes }] of Object.entries(ATTACKS)) {
  t.test(name, { skip: skipWithout('python') }, async (t) => {
    const url = await startProvider(t);
    const scene = await startScene(t, {
      config: { llm: { upstreams: [{ name: 'silent', url }] } },
      // As the image starts it.
      env: { NODE_OPTIONS: '--max-semi-space-size=4', MALLOC_ARENA_MAX: '1' },
      checkout: process.env['ATTACKED_CHECKOUT'],
    });
    const { bystander } = await scene.during(async () => {
      const sockets = Array.from({ length: connections }, () => {
        const socket = connect({ port: scene.sidecar.llmPort, host: '127.0.0.1' });
        t.teardown(() => socket.destroy());
        return socket.on('error', () => {}).resume();
      });
      await Promise.all(sockets.map((socket) => once(socket, 'connect')));
      for (const socket of sockets) socket.write(bytes);
      await new Promise((resolve) => setTimeout(resolve, ATTACK_MS));
      t.comment(`peak ${scene.peakBytes() / 1e6} MB, now ${scene.residentBytes() / 1e6} MB`);
      for (const socket of sockets) socket.destroy();
    });
    scene.holds(t, bystander);
    // One burst delays few of its calls.
    t.ok(
      bystander.slowestMs <= bystander.boundMs,
      `${bystander.slowestMs} ms, below ${bystander.boundMs} ms`,
    );
  });
}
