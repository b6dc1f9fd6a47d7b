// Upstreams and callers that do everything wrong at random, with reloads between: nothing breaks, nothing is left.
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import {
  errorCode,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  type H2PeerServer,
  settings,
  startPeerServer,
  uint32,
} from '../scripts/harness/h2-peer.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { seededRandom } from './support/seeded-random.ts';

const DURATION_MS = 2_500;
const MAX_CONCURRENT_STREAMS = 3;
const INITIAL_WINDOW_SIZE = 4;
const balancers = ['peak_ewma', 'round_robin', 'least_request', 'ring_hash'];
const grpcHead: [string, string][] = [
  [':status', '200'],
  ['content-type', 'application/grpc'],
];

type Pick = (below: number) => number;

/** What an upstream may do with a call, each as likely as the others. */
function misdeeds(peer: H2Peer, id: number, pick: Pick): (() => unknown)[] {
  const later = (then: () => unknown): unknown => setTimeout(() => !peer.closed && then(), pick(30));
  const head = (): unknown => peer.headers(id, grpcHead);
  const trailers = (): unknown => peer.headers(id, [['grpc-status', `${pick(17)}`]], true);
  const data = (end = false): unknown => peer.data(id, grpcMessage(Buffer.alloc(pick(16_000))), end);
  const stream = (left: number): unknown => {
    if (left === 0) return trailers();
    data();
    return later(() => stream(left - 1));
  };
  const goaway = Buffer.concat([uint32(Math.max(0, id - 2 * pick(2))), uint32(pick(12))]);
  const seldom = (then: () => unknown): unknown => (pick(8) === 0 ? then() : trailers());
  return [
    () => peer.reset(id, pick(14)),
    () => peer.reset(id, errorCode.refusedStream),
    () => seldom(() => peer.send(frame(frameType.goaway, 0, 0, goaway))),
    () => seldom(() => peer.socket.destroy()),
    () => seldom(() => peer.send(Buffer.from('no frame at all, but many bytes of noise'))),
    () => peer.headers(id, [...grpcHead, ['grpc-status', '0']], true),
    () => peer.headers(id, [[':status', '503']], pick(2) === 0),
    () => [head(), later(() => peer.reset(id, pick(14)))],
    () => [head(), data(pick(3) === 0)],
    () => [head(), data(), later(trailers)],
    () => [head(), stream(pick(10))],
    () => [peer.headers(id, [[':status', '103']]), later(trailers)],
    () => [
      peer.send(settings([MAX_CONCURRENT_STREAMS, pick(20)], [INITIAL_WINDOW_SIZE, pick(70_000)])),
      trailers(),
    ],
    () => {},
  ];
}

function startUnruly(t: Test, pick: Pick): Promise<H2PeerServer> {
  return startPeerServer(t, (peer) => {
    peer.behave({ reads: false });
    const behaved = peer.onFrame!;
    peer.onFrame = (received) => {
      behaved(received);
      if (received.type !== frameType.headers) return;
      for (const id of [0, received.streamId]) if (pick(3) > 0) peer.windowUpdate(id, 1 + pick(100_000));
      const acts = misdeeds(peer, received.streamId, pick);
      setTimeout(() => !peer.closed && acts[pick(acts.length)]!(), pick(30));
    };
    const mood = pick(15);
    if (mood === 0) peer.socket.destroy();
    else if (mood > 1)
      peer.send(
        settings(
          [MAX_CONCURRENT_STREAMS, 1 + pick(50)],
          [INITIAL_WINDOW_SIZE, pick(4) > 0 ? 65_535 : pick(3_000)],
        ),
      );
  });
}

/** One connection with some calls, of which some are never finished, some are reset, and some are left alone. */
async function callAtRandom(t: Test, port: number, pick: Pick): Promise<number> {
  const peer = (await H2Peer.connect(t, port)).behave({ reads: false });
  const count = 1 + pick(30);
  const ids = Array.from({ length: count }, (_, index) => index * 2 + 1);
  for (const id of ids) {
    const timeout: [string, string][] = pick(3) > 0 ? [] : [['grpc-timeout', `${pick(200)}m`]];
    const path = pick(3) > 0 ? '/a.B/C' : '/agent.AgentService/ProcessTask';
    peer.headers(id, grpcRequest(path, ...timeout), pick(8) === 0);
    for (let part = pick(4); part > 0; part--)
      peer.data(id, grpcMessage(Buffer.alloc(pick(2) * pick(16_000))));
    if (pick(4) > 0) setTimeout(() => peer.data(id, Buffer.alloc(0), true), pick(40));
    if (pick(6) === 0) setTimeout(() => peer.reset(id, errorCode.cancel), pick(30));
    for (const window of [0, id]) if (pick(3) > 0) peer.windowUpdate(window, 1 + pick(100_000));
    if (pick(3) === 0) await new Promise((resolve) => setTimeout(resolve, pick(10)));
  }
  const over = (id: number): boolean => peer.closed || peer.ended.has(id) || peer.resets.has(id);
  if (pick(4) > 0) await peer.until('all were over', () => ids.every(over), 500).catch(() => {});
  peer.socket.destroy();
  return count;
}

/** Everything that is counted up with a call and must have come down again. */
function leftovers({ sidecar }: DataPlane): Record<string, number> {
  const clusters = [...sidecar.outbound.clusters.clusters.values()];
  const endpoints = clusters.flatMap((cluster) => cluster.endpoints);
  const sum = (numbers: number[]): number => numbers.reduce((total, number) => total + number, 0);
  return {
    calls: sidecar.outbound.stats.activeCalls,
    clusterCalls: sum(clusters.map(({ activeCalls }) => activeCalls)),
    attempts: sum(endpoints.map(({ activeCalls }) => activeCalls)),
    pending: sum(endpoints.map(({ pool }) => pool.pendingCount)),
    downstreams: sidecar.outbound.listener.connectionCount,
    // One for each pool and connection at most, and two that look for the app.
    timers: Math.max(0, sidecar.wheel.size - sum(endpoints.map(({ pool }) => 1 + pool.connectionCount)) - 3),
  };
}

for (const seed of [1, 2]) {
  t.test(`random faults leave nothing behind: seed ${seed}`, async (t) => {
    const random = seededRandom(seed);
    const pick: Pick = (below) => Math.floor(random() * below);
    const servers = await Promise.all([0, 1, 2].map(() => startUnruly(t, pick)));
    const addresses = servers.map(({ address }) => address);
    const settingsAtRandom = (): Record<string, unknown> =>
      oneCluster(addresses.slice(0, 1 + pick(3)), {
        timeout: ['300ms', '100ms'][pick(2)],
        connect_timeout: '100ms',
        balancer: balancers[pick(4)],
        limits: { max_connections: 1 + pick(4), max_pending_calls: 5 + pick(100) },
      });
    const faults: string[] = [];
    const plane = await startDataPlane(t, settingsAtRandom(), {
      onConnectionError: (_, { source, message }) => source === 'local' && faults.push(message),
    });
    const endAtMs = performance.now() + DURATION_MS;
    let calls = 0;
    const caller = async (): Promise<void> => {
      // And a hundred calls at least, however slow the machine is.
      while (performance.now() < endAtMs || calls <= 100)
        calls += await callAtRandom(t, plane.outboundPort, pick);
    };
    const reloads = setInterval(() => void plane.apply(settingsAtRandom()), 250);
    await Promise.all(Array.from({ length: 5 }, caller));
    clearInterval(reloads);
    for (const { peers } of servers) for (const { socket } of peers) socket.destroy();
    const none = { calls: 0, clusterCalls: 0, attempts: 0, pending: 0, downstreams: 0, timers: 0 };
    await waitUntil(
      'nothing was left',
      () => JSON.stringify(leftovers(plane)) === JSON.stringify(none),
    ).catch(() => {});
    t.strictSame(leftovers(plane), none, `behind ${calls} calls`);
    t.strictSame(faults, [], 'and no fault of ours');
    t.ok(calls > 100);
  });
}
