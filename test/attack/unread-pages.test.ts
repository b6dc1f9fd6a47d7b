// Readers that ask for pages of metrics, each at another moment, and read none of them, hold little memory, and keep no
// other scraper from its page.
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startScene } from './scene.ts';

t.setTimeout(120_000);

const CLUSTERS = 1_000;
/** As many as the listener takes. */
const DEAF_READERS = 120;
/** Requests that one connection may send ahead. */
const AHEAD = 4;

/** With so many a page is larger than what the system keeps for a connection. */
function manyClusters(): Record<string, object> {
  return Object.fromEntries(
    Array.from({ length: CLUSTERS }, (_, i) => [
      `a-cluster-with-a-name-as-long-as-those-of-services-in-large-systems-${i}`,
      { endpoints: [`127.0.0.1:${40_000 + i}`] },
    ]),
  );
}

t.test('the sidecar does not keep pages that no client reads', async (t) => {
  const scene = await startScene(t, { config: { outbound: { clusters: manyClusters() } }, app: false });
  const { metricsPort } = scene.sidecar;
  const url = `http://127.0.0.1:${metricsPort}/metrics`;
  const page = await (await fetch(url)).text();
  t.ok(page.length > 1_000_000, `a page has ${(page.length / 1e6).toFixed(1)} MB`);
  const before = scene.residentBytes();

  const deaf: Socket[] = [];
  t.teardown(() => {
    for (const socket of deaf) socket.destroy();
  });
  const request = 'GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n';
  for (let i = 0; i < DEAF_READERS; i++) {
    const socket = connect({ port: metricsPort, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.pause();
    socket.write(request.repeat(AHEAD));
    deaf.push(socket);
    // Each gets a page of its own, not the one that others wait for.
    await sleep(20);
  }
  const again = await (await fetch(url)).text();
  t.match(again, /\noutrigger_/, 'another scraper gets its page meanwhile');
  t.ok(again.endsWith('\n'), 'all of it');
  const moreMb = (scene.residentBytes() - before) / 1e6;
  t.comment(`${DEAF_READERS} readers that don't read made ${moreMb.toFixed(0)} MB more resident`);
  scene.holds(t);
});

t.test('memory of unread event streams is bounded', async (t) => {
  const scene = await startScene(t, { config: { outbound: { clusters: manyClusters() } }, app: false });
  const { adminPort } = scene.sidecar;
  const url = `http://127.0.0.1:${adminPort}`;
  const snapshot = await (await fetch(`${url}/live?format=json`)).text();
  t.ok(snapshot.length > 50_000, `a snapshot has ${(snapshot.length / 1e6).toFixed(1)} MB`);
  const before = scene.residentBytes();
  const deaf: Socket[] = [];
  t.teardown(() => {
    for (const socket of deaf) socket.destroy();
  });
  for (let i = 0; i < DEAF_READERS; i++) {
    const socket = connect({ port: adminPort, host: '127.0.0.1' });
    socket.on('error', () => {});
    socket.pause();
    const path = i % 2 === 0 ? '/live?format=stream' : '/events?format=stream';
    socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${adminPort}\r\n\r\n`);
    deaf.push(socket);
  }
  // The stream writes once a second to whoever reads.
  await sleep(6_000);
  const again = (await (await fetch(`${url}/live?format=json`)).json()) as { instance?: string };
  t.ok(again.instance !== undefined, 'another watcher gets the state meanwhile');
  const moreMb = (scene.residentBytes() - before) / 1e6;
  t.comment(`${DEAF_READERS} readers that don't read made ${moreMb.toFixed(0)} MB more resident`);
  scene.holds(t);
});
