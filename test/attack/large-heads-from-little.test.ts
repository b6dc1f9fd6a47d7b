// Header blocks of a few bytes may stand for very much (RFC 7541 §7.3), which is then sent on to an app. What one caller can
// have sent so is bounded, an app gets no larger lists than it takes, and one that reads slowly keeps its connection.
import t, { type Test } from 'tap';
import {
  flag,
  frame,
  frameType,
  grpcMessage,
  grpcRequest,
  H2Peer,
  headerBlock,
  settings,
  startPeerServer,
} from '../../scripts/harness/h2-peer.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startScene } from './scene.ts';

const skip = skipWithout('python');
t.setTimeout(180_000);

/** The newest entry of the dynamic table, as a field (RFC 7541 §6.1). */
const NEWEST = 0xbe;
const ENTRY_BYTES = 3_900;

/** Requests whose heads refer to one large entry so many times; the first one brings it. */
class Expander {
  readonly peer: H2Peer;
  private readonly path: string;
  private id = -1;

  private constructor(peer: H2Peer, path: string) {
    this.peer = peer;
    this.path = path;
  }

  static async connect(t: Test, port: number, path: string): Promise<Expander> {
    return new Expander((await H2Peer.connect(t, port)).behave(), path);
  }

  request(references: number): Buffer {
    const brings = this.id < 0;
    this.id += 2;
    const entry = headerBlock([['x', 'y'.repeat(ENTRY_BYTES)]]);
    // Literal with incremental indexing (§6.2.1)
    entry[0] = 0x40;
    const block = Buffer.concat([
      headerBlock(grpcRequest(this.path)),
      brings ? entry : Buffer.alloc(0),
      Buffer.alloc(references, NEWEST),
    ]);
    return frame(frameType.headers, flag.endHeaders | flag.endStream, this.id, block);
  }

  /** @returns how many calls were begun before the connection was ended, or asked to go */
  async flood(count: number, references: number): Promise<number> {
    let begun = 0;
    for (; begun < count && !this.peer.closed && this.peer.goaway === undefined; begun += 100)
      await this.peer.send(...Array.from({ length: 100 }, () => this.request(references)));
    return begun;
  }
}

t.test('heads that a caller compresses into few bytes reach a real app in bounds', { skip }, async (t) => {
  const scene = await startScene(t);
  const { inboundPort } = scene.sidecar;
  // Within what grpcio takes, and above it.
  for (const references of [3, 14]) {
    const callers = await Promise.all(
      [1, 2].map(() => Expander.connect(t, inboundPort, '/expand.Service/Call')),
    );
    const { result, bystander } = await scene.during(() =>
      Promise.all(callers.map((caller) => caller.flood(10_000, references))),
    );
    for (const [nth, { peer }] of callers.entries()) {
      await peer.until(
        'each call was answered',
        () => peer.closed || peer.goaway !== undefined || peer.ended.size >= result[nth]!,
      );
      const ends = new Map<string, number>();
      for (const heads of peer.heads.values()) {
        const last = new Map(heads.at(-1));
        const end = `${last.get('grpc-status')} ${last.get('outrigger-reason') ?? 'from the app'}`;
        ends.set(end, (ends.get(end) ?? 0) + 1);
      }
      const said = [...ends].map(([end, count]) => `${count} with ${end}`).join(', ');
      const ours = [...ends.keys()].filter((end) => !/from the app|upstream_reset/.test(end));
      t.strictSame(
        ours.filter((end) => !/^8 (headers_too_large|overloaded)$/.test(end)),
        [],
        `who is refused hears why: ${said}`,
      );
    }
    scene.holds(t, bystander);
  }
});

t.test('a slowly reading endpoint gets no more streams, and keeps its open ones', { skip }, async (t) => {
  const running: { peer: H2Peer; id: number }[] = [];
  const slow = await startPeerServer(t, (peer) => {
    peer.send(settings());
    peer.behave();
    peer.onFrame = ((before) => (received) => {
      before?.(received);
      const { type, streamId: id } = received;
      if (type !== frameType.headers) return;
      const path = peer.heads
        .get(id)
        ?.at(0)
        ?.find(([name]) => name === ':path')?.[1];
      if (path === '/slow.Service/Runs') running.push({ peer, id });
      else void end(peer, id);
    })(peer.onFrame);
  });
  const end = (peer: H2Peer, id: number): Promise<void> =>
    peer.headers(
      id,
      [
        [':status', '200'],
        ['content-type', 'application/grpc'],
        ['grpc-status', '0'],
      ],
      true,
    );
  const scene = await startScene(t, {
    config: {
      outbound: {
        routes: [{ match: { path_prefix: '/slow.' }, cluster: 'slow' }],
        clusters: {
          slow: {
            endpoints: [slow.address],
            circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
            limits: { max_connections: 1 },
          },
        },
      },
    },
  });
  const { outboundPort } = scene.sidecar;
  const neighbour = (await H2Peer.connect(t, outboundPort)).behave();
  void neighbour.headers(1, grpcRequest('/slow.Service/Runs'));
  void neighbour.data(1, grpcMessage(Buffer.from('x')), true);
  await waitUntil('the neighbour’s call runs', () => running.length === 1);
  const [call] = running;
  const caller = (await H2Peer.connect(t, outboundPort)).behave();
  const calls = 600;
  const { bystander } = await scene.during(async () => {
    call!.peer.socket.pause();
    for (let nth = 0; nth < calls; nth++)
      await caller.headers(2 * nth + 1, grpcRequest('/slow.Service/Call', ['x', 'y'.repeat(50_000)]), true);
    await caller.roundTrip();
    call!.peer.socket.resume();
    await end(call!.peer, call!.id);
    await neighbour.until('its call ended', () => neighbour.ended.has(1) || neighbour.resets.has(1));
  });
  await caller.until('all calls were answered', () => caller.ended.size === calls || caller.closed);
  t.equal(neighbour.field(1, 'grpc-status'), '0', `${neighbour.field(1, 'grpc-message')}`);
  t.equal(call!.peer.goaway, undefined, 'its connection was not ended');
  void neighbour.headers(3, grpcRequest('/slow.Service/Call'));
  void neighbour.data(3, grpcMessage(Buffer.from('x')), true);
  await neighbour.until('calls continue', () => neighbour.ended.has(3) || neighbour.resets.has(3));
  t.equal(neighbour.field(3, 'grpc-status'), '0', `${neighbour.field(3, 'grpc-message')}`);
  const reasons = new Set(
    [...caller.heads.values()].map((heads) => new Map(heads.at(-1)).get('outrigger-reason')),
  );
  t.ok(
    [...reasons].every((reason) => reason === undefined || reason === 'overloaded'),
    `who is refused hears why: ${[...reasons].join(', ')}`,
  );
  scene.holds(t, bystander);
});
