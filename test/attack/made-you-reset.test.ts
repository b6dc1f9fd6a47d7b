// Whatever makes the sidecar reset a stream, or begin work and give it up, is paid as a reset of the caller's own is
// (CVE-2023-44487 and CVE-2025-8671): a connection that brings nothing else is sent away before it has made much work.
import t from 'tap';
import {
  errorCode,
  type Frame,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  settings,
  startPeerServer,
  uint32,
} from '../../scripts/harness/h2-peer.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { startScene } from './scene.ts';

const skip = skipWithout('python');
t.setTimeout(240_000);

type Fields = readonly (readonly [string, string])[];

const CALL = '/reset.Service/Call';
const CALLS = 60_000;
const BATCH = 200;
/** More than may come to nothing on one connection: 4,000, and a thousand more once it has been asked to go. */
const MOST_BEGUN = 7_000;
/** And in each second, which a busy machine has many of. */
const MOST_A_SECOND = 400;
/** Calls that are not answered yet, fewer than a connection may have open. */
const MOST_OPEN = 600;

const head = (id: number, fields: Fields, flags = 0): Buffer =>
  frame(frameType.headers, flag.endHeaders | flags, id, headerBlock(fields));
const begin = (id: number, ...more: Fields): Buffer => head(id, grpcRequest(CALL, ...more));
const beginAndEnd = (id: number, ...more: Fields): Buffer =>
  head(id, grpcRequest(CALL, ...more), flag.endStream);
/** A task whose message does not come. */
const beginTask = (id: number, timeout: string): Buffer =>
  head(id, grpcRequest(PROCESS_TASK_PATH, ['grpc-timeout', timeout]));
const data = (id: number, body: Buffer, flags = 0): Buffer => frame(frameType.data, flags, id, body);
const priority = (id: number, on: number): Buffer =>
  frame(frameType.priority, 0, id, Buffer.concat([uint32(on), Buffer.from([1])]));
const fourGigabytes = Buffer.from([0, 255, 255, 255, 255]);
const message = grpcMessage(Buffer.from('x'));
/** 72,000 bytes of fields by one-byte references to `from` (RFC 7541, Appendix A). */
const manyFields = Buffer.alloc(2_000, 0x80 | 37);

/** The calls that each way is made of. `graceful`: the connection may be asked to go in place of being ended. */
const ways: Record<string, { readonly call: (id: number) => Buffer; readonly graceful?: boolean }> = {
  // The app may have answered the call before its message is here, and then its stream is open for a moment longer.
  'a message of 4 GB': { call: (id) => Buffer.concat([begin(id), data(id, fourGigabytes)]), graceful: true },
  'a task of 4 GB': {
    call: (id) => Buffer.concat([head(id, grpcRequest(PROCESS_TASK_PATH)), data(id, fourGigabytes)]),
    graceful: true,
  },
  'a deadline of a millisecond': { call: (id) => beginTask(id, '1m'), graceful: true },
  'a deadline of a nanosecond': { call: (id) => beginTask(id, '1n'), graceful: true },
  'a malformed timeout': { call: (id) => begin(id, ['grpc-timeout', 'soon']), graceful: true },
  'a malformed timeout, and END_STREAM': {
    call: (id) => beginAndEnd(id, ['grpc-timeout', 'soon']),
    graceful: true,
  },
  'WINDOW_UPDATE by 0': {
    call: (id) => Buffer.concat([begin(id), frame(frameType.windowUpdate, 0, id, uint32(0))]),
  },
  'WINDOW_UPDATE that overflows': {
    call: (id) => Buffer.concat([begin(id), frame(frameType.windowUpdate, 0, id, uint32(0x7fffffff))]),
  },
  'DATA behind END_STREAM': { call: (id) => Buffer.concat([beginAndEnd(id), data(id, message)]) },
  'HEADERS behind END_STREAM': { call: (id) => Buffer.concat([beginAndEnd(id), head(id, [['x', 'y']], 1)]) },
  'PRIORITY of a wrong length': {
    call: (id) => Buffer.concat([begin(id), frame(frameType.priority, 0, id, Buffer.alloc(4))]),
  },
  'a stream that depends on itself': { call: (id) => Buffer.concat([begin(id), priority(id, id)]) },
  'more DATA than content-length': {
    call: (id) => Buffer.concat([begin(id, ['content-length', '1']), data(id, message)]),
  },
  'less DATA than content-length': {
    call: (id) => Buffer.concat([begin(id, ['content-length', '100']), data(id, message, flag.endStream)]),
  },
  'trailers that do not end': { call: (id) => Buffer.concat([begin(id), head(id, [['x', 'y']])]) },
  'malformed trailers': { call: (id) => Buffer.concat([begin(id), head(id, [[':path', '/']], 1)]) },
  'a malformed head': { call: (id) => begin(id, ['X', 'y']) },
  'a head that is too large': {
    call: (id) =>
      frame(
        frameType.headers,
        flag.endHeaders | flag.endStream,
        id,
        Buffer.concat([headerBlock(grpcRequest(CALL)), manyFields]),
      ),
    graceful: true,
  },
  'trailers that are too large': {
    call: (id) => Buffer.concat([begin(id), frame(frameType.headers, 5, id, manyFields)]),
    graceful: true,
  },
  CONNECT: {
    call: (id) =>
      head(id, [
        [':method', 'CONNECT'],
        [':authority', 'a'],
      ]),
    graceful: true,
  },
  'a health request of 5 KB': {
    call: (id) =>
      Buffer.concat([head(id, grpcRequest('/grpc.health.v1.Health/Check')), data(id, Buffer.alloc(5_000))]),
    graceful: true,
  },
};

/** Brings calls until the connection has ended, or takes no more; answers how many it has begun, and how many it may. */
async function bring(peer: H2Peer, call: (id: number) => Buffer): Promise<{ begun: number; most: number }> {
  const beganMs = performance.now();
  const isFinal = () => peer.goaway !== undefined && peer.goaway.lastStreamId < 0x7fffffff;
  for (let nth = 0; nth < CALLS && !peer.closed && !isFinal(); nth += BATCH) {
    const calls = Buffer.concat(Array.from({ length: BATCH }, (_, n) => call(2 * (nth + n) + 1)));
    await peer.send(calls);
    const sent = nth + BATCH;
    await peer.until(
      'most were answered',
      () => sent - Math.max(peer.heads.size, peer.resets.size) < MOST_OPEN || peer.closed || isFinal(),
    );
  }
  await peer.until('it was sent away', () => peer.closed || isFinal());
  const most = MOST_BEGUN + (MOST_A_SECOND * (performance.now() - beganMs)) / 1_000;
  return { begun: ((peer.goaway?.lastStreamId ?? 0) + 1) / 2, most };
}

t.test('every frame that provokes a reset counts against its sender', { skip }, async (t) => {
  const scene = await startScene(t);
  const { bystander } = await scene.during(async () => {
    for (const [name, { call, graceful }] of Object.entries(ways)) {
      const peer = (await H2Peer.connect(t, scene.sidecar.inboundPort)).behave();
      const { begun, most } = await bring(peer, call);
      // A peer that was busy sending may have been cut off before it read the GOAWAY.
      if (peer.goaway !== undefined) {
        t.ok(begun <= most, `${name}: ${begun} calls were begun`);
        // How many calls run when the allowance is used up decides between the two, for what a caller may do by mistake.
        const codes = graceful ? [errorCode.enhanceYourCalm, errorCode.noError] : [errorCode.enhanceYourCalm];
        t.ok(codes.includes(peer.goaway.code as never), `${name}: ${peer.goaway.code} ${peer.goaway.debug}`);
      } else t.ok(peer.closed, name);
      peer.socket.destroy();
    }
  });
  scene.holds(t, bystander);
});

t.test('calls of others on a shared connection continue after GOAWAY', async (t) => {
  const held: { peer: H2Peer; id: number }[] = [];
  const app = await startPeerServer(t, (peer) => {
    peer.send(settings());
    peer.behave();
    peer.onFrame = ((before) => (received: Frame) => {
      before?.(received);
      const { type, streamId: id } = received;
      if (type !== frameType.headers) return;
      const path = new Map(peer.heads.get(id)?.at(0)).get(':path');
      if (path === '/reset.Service/Runs') held.push({ peer, id });
    })(peer.onFrame);
  });
  const scene = await startScene(t, { app: app.address, bystander: false });
  for (const name of [
    'a message of 4 GB',
    'a malformed timeout',
    'a deadline of a millisecond',
    'trailers that are too large',
  ]) {
    const peer = (await H2Peer.connect(t, scene.sidecar.inboundPort)).behave();
    const before = held.length;
    void peer.headers(1, grpcRequest('/reset.Service/Runs'));
    void peer.data(1, message, true);
    await waitUntil('the call runs', () => held.length > before);
    await bring(peer, (id) => ways[name]!.call(id + 2));
    t.equal(peer.goaway?.code, errorCode.noError, `${name}: asked to go`);
    const call = held[before]!;
    void call.peer.headers(call.id, [
      [':status', '200'],
      ['content-type', 'application/grpc'],
    ]);
    void call.peer.headers(call.id, [['grpc-status', '0']], true);
    await peer.until('the call ended', () => peer.ended.has(1) || peer.resets.has(1) || peer.closed);
    t.equal(peer.field(1, 'grpc-status'), '0', `${name}: the call that ran is answered`);
  }
  scene.holds(t);
});

t.test('an endpoint with invalid answers costs other calls nothing', async (t) => {
  const held: { peer: H2Peer; id: number }[] = [];
  const endpoint = await startPeerServer(t, (peer) => {
    peer.send(settings());
    peer.behave();
    peer.onFrame = ((before) => (received: Frame) => {
      before?.(received);
      const { type, streamId: id } = received;
      if (type !== frameType.headers) return;
      const path = new Map(peer.heads.get(id)?.at(0)).get(':path');
      if (path === '/reset.Service/Runs') held.push({ peer, id });
      else void peer.windowUpdate(id, 0);
    })(peer.onFrame);
  });
  const scene = await startScene(t, {
    app: false,
    config: {
      outbound: {
        routes: [{ match: { path_prefix: '/' }, cluster: 'spoils' }],
        clusters: {
          spoils: {
            endpoints: [endpoint.address],
            circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
            outlier_detection: { consecutive_failures: 0 },
            retry: { max_attempts: 1 },
          },
        },
      },
    },
  });
  const neighbour = (await H2Peer.connect(t, scene.sidecar.outboundPort)).behave();
  void neighbour.headers(1, grpcRequest('/reset.Service/Runs'));
  void neighbour.data(1, message, true);
  await waitUntil('the neighbour’s call runs', () => held.length === 1);
  const caller = (await H2Peer.connect(t, scene.sidecar.outboundPort)).behave();
  for (let nth = 0; nth < 4_000; nth += 100) {
    for (let id = 2 * nth + 1; id < 2 * (nth + 100); id += 2)
      void caller.headers(id, grpcRequest('/reset.Service/Call'), true);
    await caller.until('they were answered', () => caller.ended.size >= nth + 100 || caller.closed);
  }
  t.equal(caller.ended.size, 4_000, 'each call gets the error');
  const { peer, id } = held[0]!;
  t.equal(peer.goaway, undefined);
  void peer.headers(
    id,
    [
      [':status', '200'],
      ['content-type', 'application/grpc'],
      ['grpc-status', '0'],
    ],
    true,
  );
  await neighbour.until(
    'the neighbour’s call ended',
    () => neighbour.ended.has(1) || neighbour.resets.has(1),
  );
  t.equal(neighbour.field(1, 'grpc-status'), '0', `${neighbour.field(1, 'grpc-message')}`);
  scene.holds(t);
});
