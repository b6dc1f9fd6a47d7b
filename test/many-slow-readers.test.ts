// Very many readers that stop at once: what waits for them is bounded, and nobody else has to wait.
import * as http2 from 'node:http2';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  errorCode,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  preface,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { outboundTo } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { queuedMemory } from '../sidecar/http2/queued-memory.ts';
import { type Relay, startRelay } from './support/relay.ts';

const MIB = 1_048_576;
const ROOM = 8 * MIB;
queuedMemory.maxBytes = ROOM;
// Longer than this process may be kept waiting: who moves between two looks must be seen to.
queuedMemory.lookMs = 1_000;
t.setTimeout(290_000);

/** Answers `/N` with N bytes. */
async function startBytes(t: Test): Promise<string> {
  const server = http2.createServer({ maxSessionMemory: 2_000 });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {});
    // Node's server resets a stream whose request nobody reads, even while the answer's last frame waits.
    stream.resume();
    stream.respond({ ':status': 200 });
    let left = Number(String(headers[':path']).slice(1));
    const write = (): void => {
      while (left > 0 && !stream.destroyed) {
        const bytes = Math.min(left, 65_536);
        left -= bytes;
        if (!stream.write(Buffer.alloc(bytes, 120))) {
          stream.once('drain', write);
          return;
        }
      }
      stream.end();
    };
    write();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return `127.0.0.1:${(server.address() as { port: number }).port}`;
}

const get = (path: string): [string, string][] => [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', path],
  [':authority', 'upstream'],
];

/** Opens streams whose answers nobody may send a byte of. */
async function stoppedReaders(t: Test, relay: Relay, count: number, bytes: number): Promise<H2Peer> {
  const peer = await H2Peer.connect(t, relay.outboundPort, Buffer.concat([preface, settings([4, 0])]));
  peer.behave({ reads: false });
  for (let id = 1; id < 2 * count; id += 2) await peer.headers(id, get(`/${bytes}`), true);
  return peer;
}

/** Reads a stream to its end as fast as it comes; how many bytes it had. */
async function download(t: Test, relay: Relay, bytes: number): Promise<number> {
  const session = http2.connect(`http://127.0.0.1:${relay.outboundPort}`);
  session.on('error', () => {});
  t.teardown(() => session.destroy());
  const stream = session.request({ ':path': `/${bytes}` });
  stream.on('error', () => {});
  let received = 0;
  stream.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await new Promise((resolve) => stream.on('close', resolve));
  session.close();
  return received;
}

/** What earlier tests have left is gone. */
const emptied = (): Promise<unknown> => waitUntil('no byte waits', () => queuedMemory.bytes === 0);

const idleApp = { inbound: { app: '127.0.0.1:1' } };

t.test('unread answers are bounded, and reading callers get theirs', async (t) => {
  const relay = await startRelay(t, { ...outboundTo(await startBytes(t)), ...idleApp });
  // Endless ones, and ones whose upstream has said all: both would wait here.
  const peers = [
    await stoppedReaders(t, relay, 150, 100 * MIB),
    await stoppedReaders(t, relay, 150, 200_000),
    await stoppedReaders(t, relay, 150, 200_000),
  ];
  let most = 0;
  const watch = setInterval(() => {
    most = Math.max(most, queuedMemory.bytes);
  }, 5);
  t.teardown(() => clearInterval(watch));
  await waitUntil('the room was used up', () => most > ROOM);
  t.equal(await download(t, relay, 20 * MIB), 20 * MIB, 'a reader on the same upstream connection gets all');
  const resets = () => peers.reduce((sum, { resets }) => sum + resets.size, 0);
  await waitUntil('streams that did not move were given up', () => resets() > 0);
  await waitUntil('there is room again', () => queuedMemory.bytes < ROOM);
  t.ok(most <= 2 * ROOM + 65_536, `${(most / MIB).toFixed(1)} MiB waited at most`);
  for (const peer of peers)
    for (const code of peer.resets.values())
      if (code !== errorCode.enhanceYourCalm) t.fail(`a stream was reset with ${code}`);
  const { stats } = relay.sidecar.outbound;
  t.ok((stats.rejected.get('overloaded') ?? 0) > 0, 'counted');
  t.equal(
    peers.every(({ goaway }) => goaway === undefined),
    true,
    'their connections live on',
  );
});

t.test('a slow reader that reads is not given up', async (t) => {
  await emptied();
  const relay = await startRelay(t, { ...outboundTo(await startBytes(t)), ...idleApp });
  const slow = await H2Peer.connect(t, relay.outboundPort, Buffer.concat([preface, settings([4, 20_000])]));
  slow.behave({ reads: false });
  const count = 20;
  for (let id = 1; id < 2 * count; id += 2) await slow.headers(id, get('/1000000'), true);
  const pace = setInterval(() => {
    for (let id = 1; id < 2 * count; id += 2) if (!slow.ended.has(id)) slow.windowUpdate(id, 1_000);
    slow.windowUpdate(0, 1_000 * count);
  }, 50);
  t.teardown(() => clearInterval(pace));
  const stopped = await stoppedReaders(t, relay, 200, 100 * MIB);
  await waitUntil('those that do not read were given up', () => stopped.resets.size > 100);
  await sleep(1_000);
  t.equal(slow.resets.size, 0, 'none of those that read');
  clearInterval(pace);
  for (let id = 1; id < 2 * count; id += 2) slow.windowUpdate(id, 1_000_000);
  slow.windowUpdate(0, 30_000_000);
  await slow.until('they came to their end', () => slow.ended.size === count);
  t.equal(slow.dataBytes, count * 1_000_000);
});

t.test(
  'uploads that an upstream does not read end in RESOURCE_EXHAUSTED, and other upstreams work',
  async (t) => {
    const deaf = await startPeerServer(t, (peer) => void peer.send(settings([4, 0])));
    const address = await startBytes(t);
    const relay = await startRelay(t, {
      ...idleApp,
      outbound: {
        routes: [
          { match: { path_prefix: '/deaf.' }, cluster: 'deaf' },
          { match: { path_prefix: '/' }, cluster: 'upstream' },
        ],
        clusters: { deaf: { endpoints: [deaf.address] }, upstream: { endpoints: [address] } },
      },
    });
    const message = grpcMessage(Buffer.alloc(200_000));
    const peers: H2Peer[] = [];
    for (let caller = 0; caller < 8; caller++) {
      const peer = (await H2Peer.connect(t, relay.outboundPort)).behave();
      peers.push(peer);
      for (let id = 1; id < 20; id += 2) {
        const parts: Buffer[] = [];
        for (let at = 0; at < message.length; at += 16_384)
          parts.push(frame(frameType.data, 0, id, message.subarray(at, at + 16_384)));
        await peer.headers(id, grpcRequest('/deaf.Service/Upload'));
        await peer.send(...parts);
      }
    }
    await waitUntil('some were given up', () => peers.some(({ ended }) => ended.size > 0));
    t.ok(queuedMemory.bytes <= 2 * ROOM);
    for (const peer of peers) {
      for (const id of peer.ended) {
        const answer = `${peer.field(id, 'grpc-status')} ${peer.field(id, 'outrigger-reason')}`;
        if (answer !== '8 not_read') t.fail(`call ${id}: ${answer}`);
      }
    }
    t.equal(await download(t, relay, 3 * MIB), 3 * MIB, 'calls to another upstream go on');
  },
);

t.test('all memory counts return to zero', async (t) => {
  await emptied();
  t.equal(queuedMemory.bytes, 0);
});
