// A stream whose connection between two sidecars is cut goes on, from the byte at which it stopped.
import type { ServerHttp2Stream } from 'node:http2';
import t from 'tap';
import { SecretVolume, TestAuthority } from '../scripts/harness/certificates.ts';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, grpcRequest, H2Peer, preface, settings } from '../scripts/harness/h2-peer.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { SidecarSetting } from '../sidecar/grpc/sidecar-settings.ts';
import { SENT_TAIL_MAX_BYTES } from '../sidecar/proxy/sent-tail.ts';
import { STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { faultOf, type Scene, startScene, writeSlowly } from './cuts/scene.ts';
import { ok, startReplica } from './support/answers.ts';
import { TaskCaller } from './support/task-caller.ts';
import { grpcFrame } from './support/upstream.ts';

t.setTimeout(120_000);

for (const [id, serverStays] of [
  ['', false],
  ['task', false],
  ['', true],
] as const) {
  const how = `${id === '' ? ', without an id' : ''}${serverStays ? ', and only the caller notices' : ''}`;
  t.test(`a stream that is cut anywhere arrives whole${how}`, async (t) => {
    const scene = await startScene(t);
    const fresh = (n: unknown): { id: string; input: string } => ({
      id: id && `${id} ${n}`,
      input: `q ${n}`,
    });
    const whole = await scene.ask(undefined, fresh(-1));
    t.equal(faultOf(scene, whole, whole, scene.runs()), undefined);
    const before = { ...scene.cutter.carried };
    await scene.ask(undefined, fresh(-2));
    const after = { ...scene.cutter.carried };
    for (const from of ['client', 'server'] as const) {
      const bytes = after[from] - before[from];
      const step = Math.max(1, Math.floor(bytes / 25));
      // The last bytes carry the trailers.
      for (let atByte = 1; atByte <= bytes; atByte += atByte > bytes - 30 ? 3 : step) {
        const runs = scene.runs();
        const call = await scene.ask({ from, atByte, serverStays }, fresh(`${from} ${atByte}`));
        const fault = faultOf(scene, whole, call, scene.runs() - runs);
        t.equal(fault, undefined, `${from} ${atByte} of ${bytes}`);
      }
    }
    t.comment(`cuts ${scene.cutter.cuts}, resumed ${scene.resumed('resumed')}`);
    t.ok(scene.resumed('resumed') > 20);
  });
}

/** Messages of all sizes up to 40 KiB, 6 MiB together. */
const large = Array.from({ length: 300 }, (_, nth) =>
  grpcFrame(Buffer.alloc((nth * 137) % 40_960, `${nth} `)),
);

/** The most that the agent's sidecar has kept of running streams while this ran. */
async function keptMeanwhile({ theirs }: Scene, run: () => Promise<unknown>): Promise<number> {
  let most = 0;
  const { resumptions, taskRuns } = theirs.sidecar.inbound;
  const timer = setInterval(() => {
    most = Math.max(most, taskRuns.store.bytes - resumptions.sizes.endedBytes);
  }, 1);
  await run();
  clearInterval(timer);
  return most;
}

/** An app that writes as far as the test lets it. */
class Gate {
  private limitBytes = 0;
  private goOn = (): void => {};

  open(limitBytes: number): void {
    this.limitBytes = limitBytes;
    this.goOn();
  }

  readonly write = (stream: ServerHttp2Stream, body: readonly Buffer[]): void => {
    let at = 0;
    let bytes = 0;
    this.goOn = () => {
      while (at < body.length && bytes < this.limitBytes) {
        bytes += body[at]!.length;
        if (!stream.write(body[at++]!)) return void stream.once('drain', this.goOn);
      }
      if (at === body.length) stream.end();
    };
    this.goOn();
  };
}

for (const id of ['', 'task']) {
  for (const serverStays of [false, true]) {
    const how = `${id === '' ? 'no id' : 'an id'}, ${serverStays ? 'only the caller notices' : 'both notice'}`;
    t.test(`a long stream is cut again and again: ${how}`, async (t) => {
      const gate = new Gate();
      gate.open(Number.POSITIVE_INFINITY);
      const scene = await startScene(t, { body: large, write: gate.write });
      const whole = await scene.ask(undefined, { id: id && 'whole', input: 'whole' });
      gate.open(0);
      const most = await keptMeanwhile(scene, async () => {
        const runs = scene.runs();
        const call = await scene.caller.send({ path: STREAM_PROCESS_PATH, id: id && 'cut', input: 'cut' });
        for (let n = 1; n <= 11; n++) {
          await waitUntil('it has run', () => scene.runs() > runs && scene.cutter.open > 0);
          scene.cutter.arm({ from: 'server', atByte: 1 + ((n * 7_919) % 200_000), serverStays });
          gate.open(n * 500_000);
          await waitUntil('it is cut', () => scene.cutter.cuts === n);
          await call.hasBytes(n * 500_000);
        }
        gate.open(Number.POSITIVE_INFINITY);
        await call.ended();
        t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined);
      });
      t.comment(`at most ${most} bytes kept`);
      t.equal(scene.resumed('resumed'), 11);
      // Of two streams, because the end of the first one counts. With an id the first MiB is kept for others who send the same task.
      t.ok(most <= 2 * SENT_TAIL_MAX_BYTES + (id === '' ? 0 : 1_048_576 + 131_072), 'memory is bounded');
    });
  }
}

t.test('a caller that reads slowly gets all of a stream that is cut', async (t) => {
  const scene = await startScene(t, { body: large, write: writeSlowly });
  const whole = await scene.ask(undefined, { id: '', input: 'whole' });
  const caller = await TaskCaller.connect(t, scene.ours.outboundPort, { reads: false });
  const runs = scene.runs();
  const call = await caller.send({ path: STREAM_PROCESS_PATH, id: '', input: 'slow' });
  for (let n = 0, read = 65_535; !call.over; n++) {
    await caller.peer.until(
      'it has read',
      () => call.over || call.body.length >= Math.min(read, scene.body.length),
    );
    if (n % 10 === 3) {
      const { cuts } = scene.cutter;
      scene.cutter.arm({ from: 'server', atByte: 1 });
      await caller.read(call, 200_000);
      read += 200_000;
      await waitUntil(
        'it is cut',
        () => scene.cutter.cuts > cuts || call.over || call.body.length >= scene.body.length,
      );
    }
    await caller.read(call, 100_000);
    read += 100_000;
  }
  t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined);
  t.ok(scene.resumed('resumed') >= 3);
});

t.test('streams of one connection are cut together', async (t) => {
  const scene = await startScene(t);
  const whole = await scene.ask(undefined, { id: 'whole' });
  for (const atByte of [3_000, 20_000, 50_000]) {
    const runs = scene.runs();
    scene.cutter.arm({ from: 'server', atByte });
    const calls = await Promise.all(
      Array.from({ length: 30 }, (_, n) =>
        scene.caller.send({
          path: STREAM_PROCESS_PATH,
          id: n % 2 ? `${atByte} ${n}` : '',
          input: `${atByte} ${n}`,
        }),
      ),
    );
    for (const call of calls) {
      await call.ended();
      t.equal(faultOf(scene, whole, call, 1), undefined);
    }
    t.equal(scene.runs() - runs, 30);
  }
});

t.test('a stream over mutual TLS is cut', async (t) => {
  const authority = await TestAuthority.make('ours');
  const [server, client] = [
    await authority.issue({ names: ['127.0.0.1'] }),
    await authority.issue({ names: ['spiffe://example.org/ns/agents/sa/caller'] }),
  ].map((issued) => new SecretVolume(t, { ...issued, ca: authority.ca }));
  const scene = await startScene(t, {
    tls: { cert: server!.cert, key: server!.key, client_ca: server!.ca },
    cluster: { tls: { cert: client!.cert, key: client!.key, ca: client!.ca } },
  });
  const whole = await scene.ask(undefined, { id: '', input: 'whole' });
  for (const atByte of [10, 700, 2_000, 3_500, 6_000]) {
    const runs = scene.runs();
    const call = await scene.ask({ from: 'server', atByte }, { id: '', input: `${atByte}` });
    t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined, `byte ${atByte}`);
  }
  t.ok(scene.resumed('resumed') >= 3);
});

t.test('a stream is cut, and its rest can not be had', async (t) => {
  const scene = await startScene(t, { tasks: { linger: '300ms' } });
  const whole = await scene.ask(undefined, { id: 'whole' });
  t.equal(whole.status, 0);
  const other = await startReplica(t, ok);
  const elsewhere = await startDataPlane(t, { name: 'other', inbound: { app: other.address } });
  const stranger = await startReplica(t, ok);
  for (const [name, target, outcome] of [
    ['another sidecar', elsewhere.inboundPort, 'refused'],
    ['an agent without a sidecar', stranger.port, 'refused'],
    ['nobody', undefined, 'gone'],
  ] as const) {
    scene.cutter.target = scene.theirs.inboundPort;
    scene.cutter.drop();
    // An endpoint that was not reached is left alone for a moment.
    await waitUntil(
      'it is reached again',
      async () => (await scene.ask(undefined, { id: `before ${name}` })).status === 0,
    );
    const before = scene.resumed(outcome);
    scene.cutter.target = target;
    const call = await scene.ask({ from: 'server', atByte: 2_000 }, { id: name });
    t.match(call, { status: 14, reason: 'stream_cut' }, name);
    t.ok(scene.body.subarray(0, call.body.length).equals(call.body), 'what came is the beginning');
    t.equal(scene.resumed(outcome) - before, 1, outcome);
    const run = scene.appCalls.at(-1)!;
    await waitUntil('the run has ended', () => run.stream.closed);
  }
  t.equal(other.calls.length + stranger.calls.length, 0, 'no run was begun there');
  t.equal(scene.theirs.sidecar.inbound.stats.activeCalls, 0);
});

t.test('streams are not resumed where the peer does not say that it can', async (t) => {
  const scene = await startScene(t, { tasks: { linger: '0s' } });
  await scene.ask(undefined, { id: 'whole' });
  const call = await scene.ask({ from: 'server', atByte: 2_000 }, { id: 'cut' });
  t.match(call, { status: 14, reason: 'stream_cut' });
  t.equal(scene.resumed('resumed') + scene.resumed('refused') + scene.resumed('gone'), 0);
});

t.test('only its own caller gets the rest of a stream', async (t) => {
  const scene = await startScene(t, { write: (stream, body) => void stream.write(Buffer.concat(body)) });
  const connect = async (): Promise<H2Peer> => {
    const peer = (
      await H2Peer.connect(
        t,
        scene.theirs.inboundPort,
        Buffer.concat([preface, settings([SidecarSetting.STREAMS_RESUME, 1])]),
      )
    ).behave({ reads: false });
    return peer;
  };
  const first = await connect();
  const secret: [string, string] = ['authorization', 'Bearer one'];
  await first.headers(1, grpcRequest(STREAM_PROCESS_PATH, secret));
  await first.data(1, grpcFrame('a task'), true);
  await first.until('it is answered', () => first.heads.has(1));
  const run = first.field(1, 'outrigger-run')!;
  t.match(run, /^[0-9a-f]{32}$/);
  const name = `${run}-1`;
  const ask = async (
    peer: H2Peer,
    id: number,
    resume: string,
    path: string,
    ...fields: [string, string][]
  ): Promise<void> => {
    await peer.headers(id, grpcRequest(path, ['outrigger-resume', resume], ...fields), true);
  };
  const second = await connect();
  await ask(second, 1, `${name}/100`, STREAM_PROCESS_PATH);
  await ask(second, 3, `${name}/100`, STREAM_PROCESS_PATH, ['authorization', 'Bearer two']);
  await ask(second, 5, `${name}/100`, `${STREAM_PROCESS_PATH}?x`, secret);
  await ask(second, 7, `${name}/${scene.body.length + 1}`, STREAM_PROCESS_PATH, secret);
  await ask(second, 9, `${'0'.repeat(32)}-1/0`, STREAM_PROCESS_PATH, secret);
  await ask(second, 11, 'nonsense', STREAM_PROCESS_PATH, secret);
  for (const id of [1, 3, 5, 7, 9, 11]) {
    await second.until('it is refused', () => second.ended.has(id));
    t.equal(second.field(id, 'outrigger-reason'), 'stream_cut', `${id}`);
  }
  t.equal(scene.runs(), 1);
  await ask(second, 13, `${name}/100`, STREAM_PROCESS_PATH, secret);
  await second.until('it goes on', () => second.heads.has(13));
  t.equal(second.field(13, 'outrigger-run'), name);
  await first.until('the old stream has ended', () => first.resets.has(1));
  // Whoever has it now may give it up, and then the run ends at once.
  await second.reset(13, errorCode.cancel);
  await waitUntil('the app is told', () => scene.appCalls[0]!.stream.closed);
  t.equal(scene.runs(), 1);
});
