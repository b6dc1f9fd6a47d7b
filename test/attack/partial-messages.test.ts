// Messages whose prefix promises more than ever comes: what has come of them shares one budget, and the memory that an attack
// has taken goes back to the system.
import t from 'tap';
import { grpcRequest, H2Peer, uint32 } from '../../scripts/harness/h2-peer.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';
import { FlowSender } from '../support/flow-sender.ts';
import { answerWith, startUpstream, taskRequest } from '../support/upstream.ts';
import { startScene } from './scene.ts';

t.setTimeout(240_000);

const CONNECTIONS = 30;
const STREAMS = 500;
const PROMISED_BYTES = 65_520;
const SENT_BYTES = 32_000;
/** What of an attack may stay: heaps grow in steps, and the code that ran was compiled. */
const KEPT_BYTES = 80_000_000;

const partial = Buffer.concat([Buffer.from([0]), uint32(PROMISED_BYTES), Buffer.alloc(SENT_BYTES, 0x78)]);

t.test('memory is bounded under half-sent messages', { skip: skipWithout('python') }, async (t) => {
  const scene = await startScene(t);
  const before = scene.residentBytes();
  const { result: peers, bystander } = await scene.during(async () => {
    const peers = await Promise.all(
      Array.from({ length: CONNECTIONS }, () => H2Peer.connect(t, scene.sidecar.inboundPort)),
    );
    const send = async (peer: H2Peer): Promise<void> => {
      const sender = new FlowSender(peer.behave());
      await peer.roundTrip();
      let left = STREAMS;
      for (let id = 1; id < 2 * STREAMS && !peer.closed; id += 2) {
        await peer.headers(id, grpcRequest(PROCESS_TASK_PATH));
        sender.start(id, partial, partial.length, () => left--);
      }
      await peer.until('all was sent, or refused', () => left - peer.resets.size <= 0 || peer.closed);
      await peer.roundTrip();
    };
    await Promise.all(peers.map(send));
    return peers;
  });
  scene.holds(t, bystander);
  let refused = 0;
  for (const peer of peers)
    for (const id of peer.ended) {
      const answer = `${peer.field(id, 'grpc-status')} ${peer.field(id, 'outrigger-reason')}`;
      if (answer === '8 overloaded') refused++;
      else t.fail(`call ${id}: ${answer}`);
    }
  t.ok(refused > 0, `${refused} calls were told that too much waits`);
  // While they are held: half of the budget is what the stillest may keep.
  const whileHeld = scene.residentBytes();
  for (const peer of peers) peer.socket.destroy();
  await waitUntil(
    'the memory has returned to the system',
    () => scene.residentBytes() < before + KEPT_BYTES,
    { limitMs: 30_000, everyMs: 250 },
  );
  const mb = (bytes: number): number => Math.round(bytes / 1e6);
  t.pass(
    `${mb(before)} MB before, ${mb(scene.peakBytes())} at the peak, ${mb(whileHeld)} held, ${mb(scene.residentBytes())} after`,
  );
});

t.test('hundreds of large requests of one gateway on one connection are not an attack', async (t) => {
  const app = await startUpstream(t, {
    onCall: ({ stream }) => void stream.on('end', () => answerWith(stream, 'ok')).resume(),
  });
  const scene = await startScene(t, { app: app.address, bystander: false });
  const gateway = new RawClient(t, scene.sidecar.inboundPort);
  const input = 'x'.repeat(200_000);
  const outcomes = await Promise.all(
    Array.from({ length: 700 }, (_, index) =>
      gateway.unary(taskRequest({ id: `upload-${index}`, input }), { path: PROCESS_TASK_PATH }),
    ),
  );
  const refused = outcomes.filter(({ code }) => code !== 0);
  t.strictSame(
    refused.slice(0, 3).map(({ details }) => details),
    [],
    'none is refused',
  );
  scene.holds(t);
});
