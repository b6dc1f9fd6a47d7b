// A flood costs the connection that sends it, and nobody else: it ends in GOAWAY ENHANCE_YOUR_CALM or a reset,
// memory stays bounded, and the calls of another connection go on.
import t, { type Test } from 'tap';
import { parseExposition } from '../scripts/harness/exposition.ts';
import {
  errorCode,
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  preface,
  settings,
  startPeerServer,
  uint32,
} from '../scripts/harness/h2-peer.ts';
import { residentBytes } from '../scripts/harness/memory.ts';
import { startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(180_000);

const nothing = Buffer.alloc(0);
/** More than any allowance; each flood also ends when its connection does. */
const FRAMES = 60_000;
const BATCH = 500;
/** What all floods together may add to a process that was warm before. */
const MAX_GROWTH_BYTES = 96 << 20;
const CALL = '/flood.Service/Call';

const upstream = await startUpstream(t, {
  onCall: ({ stream }) => void stream.on('end', () => answerWith(stream, 'ok')).resume(),
});
const hostile = await startPeerServer(t, (peer) => onHostile(peer));
let onHostile: (peer: H2Peer) => void = () => {};
const sidecar = await startSidecar(
  t,
  {
    inbound: {
      app: upstream.address,
      limits: { max_connections: 64, max_concurrent_streams: 100 },
      // Off, so that a flood of PINGs meets the flood guard here, and the keepalive guard at the other listener.
      keepalive: { min_time: '0s' },
    },
    outbound: {
      limits: { max_concurrent_streams: 100 },
      routes: [
        { match: { path_prefix: '/hostile.' }, cluster: 'hostile' },
        { match: {}, cluster: 'known' },
      ],
      clusters: {
        known: { endpoints: [upstream.address] },
        hostile: {
          endpoints: [hostile.address],
          idle_timeout: '5s',
          circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
        },
      },
    },
  },
  { until: 'live' },
);

/** Calls on a connection of their own, one after the other, for as long as a flood lasts. */
class Bystander {
  calls = 0;
  private readonly peer: H2Peer;
  private running = true;
  private readonly done: Promise<void>;

  private constructor(t: Test, peer: H2Peer) {
    this.peer = peer.behave();
    this.done = this.run(t);
  }

  static async start(t: Test, port: number): Promise<Bystander> {
    return new Bystander(t, await H2Peer.connect(t, port));
  }

  private async run(t: Test): Promise<void> {
    while (this.running || this.calls < 3) {
      const id = 2 * this.calls + 1;
      this.peer.headers(id, grpcRequest(CALL));
      this.peer.data(id, grpcMessage(Buffer.from('x')), true);
      await this.peer.until(
        'a call of another connection ended',
        () => this.peer.ended.has(id) || this.peer.closed,
      );
      if (this.peer.field(id, 'grpc-status') !== '0') {
        t.fail(
          `call ${this.calls} of another connection: ${JSON.stringify(this.peer.heads.get(id)?.at(-1))}`,
        );
        return;
      }
      this.calls++;
    }
  }

  async stop(): Promise<void> {
    this.running = false;
    await this.done;
  }
}

/** Sends `make(i)` until the connection is gone or FRAMES are sent. */
async function flood(peer: H2Peer, make: (index: number) => Buffer): Promise<void> {
  for (let sent = 0; sent < FRAMES && !peer.closed && peer.goaway === undefined; sent += BATCH) {
    await peer.send(...Array.from({ length: BATCH }, (_, index) => make(sent + index)));
  }
}

const request = (id: number, endStream = true) =>
  frame(
    frameType.headers,
    flag.endHeaders | (endStream ? flag.endStream : 0),
    id,
    headerBlock(grpcRequest(CALL)),
  );

/** Connections that this listener has ended with ENHANCE_YOUR_CALM. */
async function calmed(listener: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`);
  const { value } = parseExposition(await response.text());
  const count = (reason: string) => value('outrigger_rejected_total', { listener, reason }) ?? 0;
  return count('enhance_your_calm') + count('too_many_pings');
}

const openFirst = (peer: H2Peer) => peer.headers(1, grpcRequest(CALL));

/** Each flood of a client: what it begins with, and the frames it repeats. */
const floods: Record<string, { begin?: (peer: H2Peer) => unknown; make: (index: number) => Buffer }> = {
  PING: { make: (index) => frame(frameType.ping, 0, 0, Buffer.concat([uint32(index), uint32(index)])) },
  SETTINGS: { make: () => settings() },
  'PRIORITY on ever new streams': {
    make: (index) =>
      frame(frameType.priority, 0, 2 * index + 1, Buffer.concat([uint32(0), Buffer.from([1])])),
  },
  WINDOW_UPDATE: {
    begin: openFirst,
    make: (index) => frame(frameType.windowUpdate, 0, index % 2, uint32(1)),
  },
  'empty DATA': { begin: openFirst, make: () => frame(frameType.data, 0, 1, nothing) },
  'frames of unknown types': { make: () => frame(0xbb, 0, 0, Buffer.from('x')) },
  'streams that are reset at once': {
    make: (index) =>
      Buffer.concat([
        request(2 * index + 1),
        frame(frameType.rstStream, 0, 2 * index + 1, uint32(errorCode.cancel)),
      ]),
  },
  'streams that are made to be reset': {
    make: (index) =>
      Buffer.concat([
        request(2 * index + 1, false),
        frame(frameType.windowUpdate, 0, 2 * index + 1, uint32(0)),
      ]),
  },
  'CONTINUATION without end': {
    begin: (peer) => peer.send(frame(frameType.headers, 0, 1, headerBlock(grpcRequest(CALL)))),
    make: () => frame(frameType.continuation, 0, 1, nothing),
  },
  'streams beyond the limit': { make: (index) => request(2 * index + 1, false) },
};

for (const listener of ['inbound', 'outbound'] as const) {
  const port = listener === 'inbound' ? sidecar.inboundPort : sidecar.outboundPort;
  t.test(`floods from downstream end their connection: ${listener}`, async (t) => {
    const bystander = await Bystander.start(t, port);
    const before = residentBytes(sidecar.pid);
    let count = await calmed(listener);
    for (const [name, { begin, make }] of Object.entries(floods)) {
      const peer = await H2Peer.connect(t, port);
      await begin?.(peer);
      await flood(peer, make);
      await peer.until(`${name} ends the connection`, () => peer.closed);
      // A peer that was busy sending may have been cut off before it read the GOAWAY; the sidecar has counted it.
      if (peer.goaway !== undefined) t.equal(peer.goaway.code, errorCode.enhanceYourCalm, peer.goaway.debug);
      count++;
      t.equal(await calmed(listener), count, `${name} was answered with ENHANCE_YOUR_CALM`);
      const seen = bystander.calls;
      await waitUntil(`calls of another connection go on behind ${name}`, () => bystander.calls > seen);
    }
    await bystander.stop();
    const grown = residentBytes(sidecar.pid) - before;
    t.ok(grown < MAX_GROWTH_BYTES, `all floods together: ${(grown / 2 ** 20).toFixed(1)} MiB`);
  });
}

t.test('a peer that requests answers and never reads them is stopped, at low cost', async (t) => {
  const bystander = await Bystander.start(t, sidecar.inboundPort);
  const before = residentBytes(sidecar.pid);
  const peers = await Promise.all(Array.from({ length: 8 }, () => H2Peer.connect(t, sidecar.inboundPort)));
  for (const peer of peers) peer.socket.pause();
  const headers = headerBlock(grpcRequest('/no.Route/AtAll'));
  for (const peer of peers) {
    // Not awaited: the sidecar stops reading, and then nothing more can be written.
    for (let index = 0; index < 20_000; index++) {
      peer.socket.write(frame(frameType.headers, flag.endHeaders | flag.endStream, 2 * index + 1, headers));
    }
  }
  const seen = bystander.calls;
  await waitUntil('calls of another connection continue', () => bystander.calls > seen + 20);
  const each = (residentBytes(sidecar.pid) - before) / peers.length;
  t.ok(each < 6 << 20, `${(each / 2 ** 20).toFixed(1)} MiB for each that does not read`);
  for (const peer of peers) peer.socket.destroy();
  await bystander.stop();
});

t.test('connections above the limit are closed at once, and silent ones cost no call', async (t) => {
  const silent = await Promise.all(
    Array.from({ length: 80 }, () => H2Peer.connect(t, sidecar.inboundPort, nothing)),
  );
  const closed = () => silent.filter((peer) => peer.closed).length;
  await waitUntil('connections above the limit are closed', () => closed() >= 16);
  // It comes last: with one that idles between two calls the sidecar might make room for a silent one.
  const bystander = await Bystander.start(t, sidecar.inboundPort);
  await waitUntil('a silent connection has made room for one that calls', () => closed() >= 17);
  await waitUntil('calls continue', () => bystander.calls > 3);
  for (const peer of silent) peer.socket.destroy();
  await bystander.stop();
});

/** What an upstream may do to us: the calls to it fail, all others go on. */
const upstreamFloods: Record<string, (peer: H2Peer) => void> = {
  PING: (peer) =>
    void flood(peer, (index) => frame(frameType.ping, 0, 0, Buffer.concat([uint32(index), uint32(index)]))),
  SETTINGS: (peer) => void flood(peer, () => settings()),
  'interim responses without end': (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type !== frameType.headers) return;
      void flood(peer, () =>
        frame(frameType.headers, flag.endHeaders, streamId, headerBlock([[':status', '103']])),
      );
    };
  },
  'DATA beyond the window': (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type !== frameType.headers) return;
      peer.send(
        frame(
          frameType.headers,
          flag.endHeaders,
          streamId,
          headerBlock([
            [':status', '200'],
            ['content-type', 'application/grpc'],
          ]),
        ),
      );
      const chunk = frame(frameType.data, 0, streamId, Buffer.alloc(16_384));
      for (let sent = 0; sent < 1_024; sent++) peer.socket.write(chunk);
    };
  },
  'a push': (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type !== frameType.headers) return;
      const promise = Buffer.concat([uint32(2), headerBlock(grpcRequest(CALL))]);
      peer.send(frame(frameType.pushPromise, flag.endHeaders, streamId, promise));
    };
  },
  'CONTINUATION without end': (peer) => {
    peer.onFrame = ({ type, streamId }) => {
      if (type !== frameType.headers) return;
      peer.send(frame(frameType.headers, 0, streamId, headerBlock([[':status', '200']])));
      void flood(peer, () => frame(frameType.continuation, 0, streamId, nothing));
    };
  },
};

t.test('floods from upstream fail only the calls to that endpoint', async (t) => {
  const bystander = await Bystander.start(t, sidecar.outboundPort);
  // With windows for all that may come, so that nothing waits for the caller.
  const wide = Buffer.concat([preface, settings([4, 0x7fffffff])]);
  const caller = (await H2Peer.connect(t, sidecar.outboundPort, wide)).behave();
  caller.windowUpdate(0, 0x7fff0000 - 65_535);
  const before = residentBytes(sidecar.pid);
  let id = -1;
  for (const [name, behave] of Object.entries(upstreamFloods)) {
    let hostilePeer: H2Peer | undefined;
    onHostile = (peer) => {
      hostilePeer = peer;
      peer.send(settings());
      behave(peer);
    };
    id += 2;
    const call = id;
    caller.headers(call, grpcRequest('/hostile.Service/Call'));
    caller.data(call, grpcMessage(Buffer.from('x')), true);
    await caller.until(`${name}: the call was answered`, () => caller.ended.has(call) || caller.closed);
    t.match(
      caller.field(call, 'grpc-status'),
      /^(4|13|14)$/,
      `${name}: ${caller.field(call, 'outrigger-reason')}`,
    );
    const seen = bystander.calls;
    await waitUntil(`calls to others go on behind ${name}`, () => bystander.calls > seen);
    // The next flood begins on a connection of its own.
    hostilePeer?.socket.destroy();
  }
  await bystander.stop();
  const grown = residentBytes(sidecar.pid) - before;
  t.ok(grown < MAX_GROWTH_BYTES, `all floods together: ${(grown / 2 ** 20).toFixed(1)} MiB`);
});

t.test('a client that never sends its preface is closed in time', async (t) => {
  // Ten seconds, which is the shortest that a slow network is given.
  const silent = await H2Peer.connect(t, sidecar.inboundPort, preface.subarray(0, 10));
  await silent.until('it was closed', () => silent.closed, 20_000);
  t.pass('closed');
});
