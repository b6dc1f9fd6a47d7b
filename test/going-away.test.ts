// Servers that end their connections in order, at a certain age or for good: the streams that end with one are one event,
// and calls that come later are served.
import { join } from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  frame,
  frameType,
  type H2Peer,
  settings,
  startPeerServer,
} from '../scripts/harness/h2-peer.ts';
import { resetSocket } from '../scripts/harness/net.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths, type UnaryOutcome } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import type { OutlierEvent } from '../sidecar/cluster/outlier/detector.ts';
import type { CircuitTransition } from '../sidecar/policy/circuit-state.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { grpcFrame, startUpstream } from './support/upstream.ts';

t.setTimeout(180_000);

interface Scene {
  readonly client: RawClient;
  readonly plane: DataPlane;
  readonly circuits: CircuitTransition[];
  readonly outliers: OutlierEvent[];
}

/** Everything on, as by default. */
const policies = { outlier_detection: {}, circuit_breaker: {}, retry: { max_attempts: 1 } };

async function startScene(t: Test, addresses: readonly string[]): Promise<Scene> {
  const circuits: CircuitTransition[] = [];
  const outliers: OutlierEvent[] = [];
  const plane = await startDataPlane(t, oneCluster(addresses, { balancer: 'round_robin', ...policies }), {
    onCircuit: (_cluster, _method, transition) => circuits.push(transition),
    onOutlier: (_cluster, event) => outliers.push(event),
  });
  return { client: new RawClient(t, plane.outboundPort), plane, circuits, outliers };
}

/** The sidecar beside an app; the address of its inbound listener. */
async function beside(t: Test, app: string): Promise<string> {
  return `127.0.0.1:${(await startDataPlane(t, { inbound: { app } })).inboundPort}`;
}

interface End {
  readonly code: status;
  readonly details: string;
  readonly messages: number;
}

function stream(client: RawClient, request: string): { readonly ended: Promise<End>; messages(): number } {
  const call = client.serverStream(Buffer.from(request), { path: rawPaths.serverStream });
  let messages = 0;
  call.on('data', () => messages++).on('error', () => {});
  const ended = new Promise<End>((resolve) =>
    call.on('status', ({ code, details }) => resolve({ code, details, messages })),
  );
  return { ended, messages: () => messages };
}

const eight = <Made>(make: () => Made): Made[] => Array.from({ length: 8 }, make);

async function expectServed(
  t: Test,
  scene: Scene,
  what: string,
  path: string = rawPaths.unary,
): Promise<void> {
  t.same(scene.circuits, [], `${what}: no circuit has opened`);
  t.same(scene.outliers, [], `${what}: nobody was ejected`);
  const codes = new Set<status>();
  for (let round = 0; round < 25; round++) {
    const calls = Array.from({ length: 10 }, () => scene.client.unary(Buffer.alloc(0), { path }));
    for (const { code } of await Promise.all(calls)) codes.add(code);
  }
  t.same([...codes], [status.OK], `${what}: 250 later calls`);
  t.same(scene.circuits, [], what);
}

const skip = skipWithout('python');

async function startAging(t: Test, ageMs: number, graceMs: number): Promise<string> {
  const script = join(import.meta.dirname, 'support', 'python', 'aging_server.py');
  const server = startProcess(t, requireTool('python'), [script, `${ageMs}`, `${graceMs}`]);
  const port = await waitUntil('the server said its port', () => /^(\d+)$/m.exec(server.logs())?.[1]);
  return `127.0.0.1:${port}`;
}

t.test('calls survive a grpcio server with max_connection_age', { skip }, async (t) => {
  const addresses = [await startAging(t, 1_000, 300), await startAging(t, 1_000, 300)];
  const behind = [await beside(t, addresses[0]!), await beside(t, addresses[1]!)];
  const cases: readonly [what: string, addresses: readonly string[]][] = [
    ['one replica', addresses.slice(0, 1)],
    ['two replicas', addresses],
    ['one replica with a sidecar', behind.slice(0, 1)],
    ['two replicas with a sidecar', behind],
  ];
  const check = async ([what, endpoints]: (typeof cases)[number]): Promise<void> => {
    const scene = await startScene(t, endpoints);
    for (const { code, details, messages } of await Promise.all(
      eight(() => stream(scene.client, '60').ended),
    )) {
      t.equal(code, status.UNAVAILABLE, `${what}: a stream`);
      t.match(details, 'max connection age', "repeats the server's error");
      t.ok(messages > 0);
    }
    await expectServed(t, scene, `${what}, streams`);
    const unary = eight(() => scene.client.unary(Buffer.from('60'), { path: rawPaths.unary }));
    for (const { code } of await Promise.all(unary)) t.equal(code, status.UNAVAILABLE, `${what}: a call`);
    await expectServed(t, scene, `${what}, calls`);
  };
  await Promise.all(cases.map(check));
});

/** A server whose connection goes away, with all that is on it, when a test says so. */
async function startLeaving(t: Test) {
  const peers: H2Peer[] = [];
  let streams = 0;
  const server = await startPeerServer(t, (peer) => {
    peers.push(peer);
    peer.behave();
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      const { type, streamId } = received;
      if (type !== frameType.headers) return;
      const path = peer.field(streamId, ':path');
      // Health is asked of an app, too.
      if (path?.startsWith('/test.Raw/') !== true) {
        peer.headers(
          streamId,
          [
            [':status', '200'],
            ['content-type', 'application/grpc'],
            ['grpc-status', '12'],
          ],
          true,
        );
        return;
      }
      streams++;
      if (path === '/test.Raw/Silent') return;
      peer.headers(streamId, [
        [':status', '200'],
        ['content-type', 'application/grpc'],
      ]);
      peer.data(streamId, grpcFrame('message'));
      if (path === '/test.Raw/Unary') peer.headers(streamId, [['grpc-status', '0']], true);
    };
    peer.send(settings());
  });
  return { address: server.address, peers, streams: () => streams };
}

const goaway = (code: number): Buffer => {
  const payload = Buffer.alloc(8);
  payload.writeUInt32BE(0x7fff_ffff, 0);
  payload.writeUInt32BE(code, 4);
  return frame(frameType.goaway, 0, 0, payload);
};

type Leaver = Awaited<ReturnType<typeof startLeaving>>;
type Leave = (peer: H2Peer, ids: readonly number[]) => void;

const leavings: readonly [what: string, leave: Leave][] = [
  ['closes', (peer) => void peer.socket.end()],
  ['is torn down', (peer) => void resetSocket(peer.socket)],
  ['resets the streams', (peer, ids) => ids.forEach((id) => void peer.reset(id, errorCode.cancel))],
  [
    'ends the streams with UNAVAILABLE',
    (peer, ids) => ids.forEach((id) => void peer.headers(id, [['grpc-status', '14']], true)),
  ],
  [
    'ends the streams without a status',
    (peer, ids) => ids.forEach((id) => void peer.data(id, Buffer.alloc(0), true)),
  ],
];

/** Streams of the test's own that the peer has not ended. */
function openStreams(peer: H2Peer): number[] {
  return [...peer.heads.keys()].filter(
    (id) => peer.field(id, ':path') === rawPaths.serverStream && !peer.resets.has(id),
  );
}

async function leaveWith(leaver: Leaver, code: number, leave: Leave): Promise<void> {
  const peer = leaver.peers.at(-1)!;
  const ids = openStreams(peer);
  await peer.send(goaway(code));
  leave(peer, ids);
}

for (const hops of ['one hop', 'two hops'] as const) {
  t.test(`a GOAWAY with eight streams counts as one event: ${hops}`, async (t) => {
    for (const [what, leave] of leavings) {
      const leaver = await startLeaving(t);
      const address = hops === 'one hop' ? leaver.address : await beside(t, leaver.address);
      const scene = await startScene(t, [address]);
      t.equal((await scene.client.unary(Buffer.alloc(0), { path: rawPaths.unary })).code, status.OK);
      const calls = eight(() => stream(scene.client, ''));
      await waitUntil('all flow', () => calls.every(({ messages }) => messages() === 1));
      await leaveWith(leaver, errorCode.noError, leave);
      for (const { code } of await Promise.all(calls.map(({ ended }) => ended)))
        t.not(code, status.OK, `${what}: the caller is notified`);
      await expectServed(t, scene, what);
    }
  });

  t.test(`the loss of a connection without GOAWAY counts as failures: ${hops}`, async (t) => {
    const leaver = await startLeaving(t);
    const address = hops === 'one hop' ? leaver.address : await beside(t, leaver.address);
    const scene = await startScene(t, [address]);
    const calls = eight(() => stream(scene.client, ''));
    await waitUntil('all flow', () => calls.every(({ messages }) => messages() === 1));
    const peer = leaver.peers.at(-1)!;
    for (const id of openStreams(peer)) await peer.headers(id, [['grpc-status', '14']], true);
    await Promise.all(calls.map(({ ended }) => ended));
    await waitUntil('the circuit is open', () => scene.circuits.at(-1)?.to === 'open');
    t.match(scene.circuits[0]!.cause, { rule: 'consecutive_cuts' });
  });

  t.test(`an endpoint that only sends GOAWAY is detected: ${hops}`, async (t) => {
    const leaver = await startLeaving(t);
    const address = hops === 'one hop' ? leaver.address : await beside(t, leaver.address);
    const scene = await startScene(t, [address]);
    for (let connection = 1; connection <= 5; connection++) {
      t.same(scene.circuits, [], `${connection} connections`);
      const before = leaver.streams();
      const calls: Promise<UnaryOutcome>[] = eight(() =>
        scene.client.unary(Buffer.alloc(0), { path: '/test.Raw/Silent', metadata: new Metadata() }),
      );
      await waitUntil('all are there', () => leaver.streams() === before + 8);
      await leaveWith(leaver, errorCode.noError, (peer) => void peer.socket.end());
      for (const { code } of await Promise.all(calls)) t.equal(code, status.UNAVAILABLE);
    }
    await waitUntil('the circuit is open', () => scene.circuits.at(-1)?.to === 'open');
    t.match(
      scene.circuits[0]!.cause,
      { rule: 'consecutive_failures', failures: 5 },
      'one for each connection',
    );
  });
}

t.test("an app can't forge headers between sidecars", async (t) => {
  const fields = {
    'outrigger-reason': 'overloaded',
    'outrigger-http-status': '503',
    'outrigger-going-away': '1',
    'outrigger-retries-ended': '1',
    'outrigger-tokens-used': '7',
    'outrigger-deduplicated': 'replayed',
  };
  const head = { ':status': 200, 'content-type': 'application/grpc', 'x-own': 'stays' };
  const app = await startUpstream(t, {
    onCall: ({ stream: answer, headers }) => {
      const own = { 'x-own': 'stays', ...fields };
      if (headers[':path'] === '/test.Raw/TrailersOnly') {
        answer.respond({ ...head, 'grpc-status': '14', ...fields }, { endStream: true });
        return;
      }
      const code = headers[':path'] === rawPaths.unary ? '0' : '14';
      answer.respond({ ...head, ...fields }, { waitForTrailers: true });
      answer.on('wantTrailers', () => answer.sendTrailers({ 'grpc-status': code, ...own }));
      answer.end(grpcFrame('answer'));
    },
  });
  const address = await beside(t, app.address);
  const scene = await startScene(t, [address]);
  for (const [path, code] of [
    ['/test.Raw/TrailersOnly', status.UNAVAILABLE],
    [rawPaths.unary, status.OK],
    ['/test.Raw/Failing', status.UNAVAILABLE],
    [PROCESS_TASK_PATH, status.UNAVAILABLE],
  ] as const) {
    const outcome = await scene.client.unary(Buffer.alloc(0), { path });
    t.equal(outcome.code, code, path);
    for (const [where, metadata] of [
      ['initial metadata', outcome.headers],
      ['trailers', outcome.trailers],
    ] as const) {
      for (const name of Object.keys(fields))
        t.same(metadata?.get(name) ?? [], [], `${path}: ${name} in ${where}`);
      if (metadata !== undefined) t.same(metadata.get('x-own'), ['stays'], path);
    }
  }
});
