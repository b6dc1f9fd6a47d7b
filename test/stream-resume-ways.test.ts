// A stream goes on whatever way is lost, and however long the way back takes, while its run waits.
import type { ServerHttp2Stream } from 'node:http2';
import t from 'tap';
import {
  errorCode,
  frame,
  frameType,
  grpcRequest,
  H2Peer,
  preface,
  settings,
} from '../scripts/harness/h2-peer.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { SidecarSetting } from '../sidecar/grpc/sidecar-settings.ts';
import { STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { faultOf, type Scene, startScene } from './cuts/scene.ts';
import type { CallerStream } from './support/task-caller.ts';
import { grpcFrame } from './support/upstream.ts';

t.setTimeout(120_000);

/** Sends half of the body, and the rest when it is let. */
class Halves {
  private readonly rests: (() => void)[] = [];

  readonly write = (stream: ServerHttp2Stream, body: readonly Buffer[]): void => {
    const half = body.length >> 1;
    for (const part of body.slice(0, half)) stream.write(part);
    this.rests.push(() => {
      for (const part of body.slice(half)) stream.write(part);
      stream.end();
    });
  };

  goOn(): void {
    for (const rest of this.rests.splice(0)) rest();
  }
}

/** So many calls that have half of their answers. */
async function half(scene: Scene, name: string, count: number): Promise<CallerStream[]> {
  const calls = await Promise.all(
    Array.from({ length: count }, (_, n) =>
      scene.caller.send({
        path: STREAM_PROCESS_PATH,
        id: n % 2 === 0 ? '' : `${name} ${n}`,
        input: `${name} ${n}`,
      }),
    ),
  );
  const bytes = scene.body.length >> 2;
  for (const call of calls) await call.hasBytes(bytes);
  return calls;
}

t.test('streams go on when the way back is closed for a moment', async (t) => {
  const halves = new Halves();
  // The retry budget is that of the defaults, and more streams are cut than it has room for.
  const scene = await startScene(t, {
    write: halves.write,
    tasks: { linger: '30s' },
    cluster: { connect_timeout: '100ms', retry: { max_attempts: 3, backoff: { base: '5ms', max: '20ms' } } },
  });
  const { cutter } = scene;
  const asked = scene.ask(undefined, { id: 'whole' });
  await waitUntil('it runs', () => scene.runs() === 1);
  halves.goOn();
  const whole = await asked;
  const endpoint = scene.ours.sidecar.outbound.clusters.clusters.get('upstream')!.endpoints[0]!;
  for (const [name, shut, open] of [
    ['refused', () => cutter.refuse(), () => cutter.accept()],
    ['closed at once', () => void (cutter.target = undefined), undefined],
    ['silent', () => void (cutter.target = 'silent'), undefined],
  ] as const) {
    const runs = scene.runs();
    const resumed = scene.resumed('resumed');
    const calls = await half(scene, name, 20);
    shut();
    cutter.drop();
    let failures = 0;
    let latest = '';
    await waitUntil('some tries have failed', () => {
      const { lastFailure } = endpoint.pool;
      const key = `${lastFailure} ${endpoint.pool.schedule.wantedAtMs}`;
      if (lastFailure !== '' && key !== latest) failures++;
      latest = key;
      return failures >= 3;
    });
    cutter.target = scene.theirs.inboundPort;
    await open?.();
    await waitUntil('all go on', () => scene.resumed('resumed') - resumed === calls.length);
    halves.goOn();
    for (const call of calls) {
      await call.ended();
      t.equal(faultOf(scene, whole, call, 1), undefined, name);
    }
    t.equal(scene.runs() - runs, calls.length, `${name}: one run each`);
  }
});

t.test('a stream goes on when keepalive finds a silent loss', async (t) => {
  const halves = new Halves();
  const keepalive = { time: '100ms', timeout: '200ms' };
  const scene = await startScene(t, {
    write: halves.write,
    inbound: { keepalive: { ...keepalive, min_time: '0s' } },
    cluster: { keepalive },
  });
  const [call] = await half(scene, 'silent', 1);
  scene.cutter.arm({ from: 'server', atByte: 1, bothStay: true });
  halves.goOn();
  await call!.ended();
  t.match(call, { status: 0 });
  t.ok(call!.body.equals(scene.body));
  t.equal(scene.runs(), 1);
  t.equal(scene.resumed('resumed'), 1);
});

t.test('a stream is cut again before its rest has begun', async (t) => {
  const scene = await startScene(t);
  const whole = await scene.ask(undefined, { id: '' });
  // In the SETTINGS, the head, and the first frames of the connection over which it would go on, or in its request.
  for (const from of ['server', 'client'] as const) {
    for (let atByte = 1; atByte < 420; atByte += 23) {
      const runs = scene.runs();
      const cuts = scene.cutter.cuts;
      await waitUntil('there is a connection', () => scene.cutter.open > 0);
      scene.cutter.arm({ from: 'server', atByte: 1_500 });
      scene.cutter.next = { from, atByte };
      const call = await (await scene.caller.send({ path: STREAM_PROCESS_PATH, id: '' })).ended();
      t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined, `${from} ${atByte}`);
      t.ok(scene.cutter.cuts >= cuts + 1);
      scene.cutter.next = undefined;
    }
  }
});

t.test(
  'a stream whose connection got GOAWAY goes on behind it, and over the next one when that breaks',
  async (t) => {
    const halves = new Halves();
    const scene = await startScene(t, { write: halves.write });
    for (const cut of [false, true]) {
      const runs = scene.runs();
      const [call] = await half(scene, `${cut}`, 1);
      scene.theirs.sidecar.inbound.listener.renew();
      const next = await half(scene, `${cut} beside`, 1);
      if (cut) scene.cutter.drop();
      halves.goOn();
      for (const one of [call!, ...next]) {
        await one.ended();
        t.match(one, { status: 0 });
        t.ok(one.body.equals(scene.body));
      }
      t.equal(scene.runs() - runs, 2);
    }
  },
);

async function connect(t: Pick<Tap, 'teardown'>, port: number): Promise<H2Peer> {
  const first = settings([SidecarSetting.STREAMS_RESUME, 1]);
  return (await H2Peer.connect(t, port, Buffer.concat([preface, first]))).behave({ reads: false });
}
type Tap = typeof t;

t.test('what a caller has given back can not be had again, and the rest can', async (t) => {
  const body = [grpcFrame(Buffer.alloc(1_000_000, 'x'))];
  const scene = await startScene(t, { body, write: (stream, parts) => void stream.write(parts[0]!) });
  const first = await connect(t, scene.theirs.inboundPort);
  await first.windowUpdate(0, 1_000_000);
  await first.headers(1, grpcRequest(STREAM_PROCESS_PATH));
  await first.data(1, grpcFrame('a task'), true);
  const parts: Buffer[] = [];
  const behaved = first.onFrame!;
  first.onFrame = (received) => {
    behaved(received);
    if (received.type === frameType.data) parts.push(Buffer.from(received.payload));
  };
  const bytes = (): number => parts.reduce((sum, { length }) => sum + length, 0);
  for (const upTo of [65_535, 165_535, 265_535]) {
    await first.until('the window is used', () => bytes() === upTo);
    if (upTo < 265_535) await first.windowUpdate(1, 100_000);
  }
  const run = first.field(1, 'outrigger-run')!;
  first.socket.destroy();
  await waitUntil('it is cut', () => scene.theirs.sidecar.inbound.resumptions.sizes.cut === 1);
  const second = await connect(t, scene.theirs.inboundPort);
  let id = 1;
  for (const byte of [0, 999, 265_536]) {
    await second.headers(
      id,
      grpcRequest(STREAM_PROCESS_PATH, ['outrigger-resume', `${run}-1/${byte}`]),
      true,
    );
    await second.until('it is refused', () => second.ended.has(id));
    t.equal(second.field(id, 'outrigger-reason'), 'stream_cut', `${byte}`);
    id += 2;
  }
  const again: Buffer[] = [];
  const seen = second.onFrame!;
  second.onFrame = (received) => {
    seen(received);
    if (received.type === frameType.data) again.push(Buffer.from(received.payload));
  };
  await second.headers(id, grpcRequest(STREAM_PROCESS_PATH, ['outrigger-resume', `${run}-1/205535`]), true);
  await second.until('its window is used', () => Buffer.concat(again).length === 65_535);
  t.ok(Buffer.concat(again).equals(scene.body.subarray(205_535, 205_535 + 65_535)));
  t.equal(scene.runs(), 1);
});

t.test('a caller whose PINGs have ended its connection gets the rest over another one', async (t) => {
  const halves = new Halves();
  const scene = await startScene(t, { write: halves.write });
  const first = await connect(t, scene.theirs.inboundPort);
  await first.headers(1, grpcRequest(STREAM_PROCESS_PATH));
  await first.data(1, grpcFrame('a task'), true);
  await first.until('it is answered', () => first.heads.has(1));
  const run = first.field(1, 'outrigger-run')!;
  const flood = Buffer.concat(
    Array.from({ length: 20_000 }, () => frame(frameType.ping, 0, 0, Buffer.alloc(8))),
  );
  void first.send(flood).catch(() => {});
  await waitUntil('it is cut', () => scene.theirs.sidecar.inbound.resumptions.sizes.cut === 1);
  const second = await connect(t, scene.theirs.inboundPort);
  await second.headers(1, grpcRequest(STREAM_PROCESS_PATH, ['outrigger-resume', `${run}-1/0`]), true);
  await second.until('it goes on', () => second.heads.has(1));
  halves.goOn();
  await second.until('it is whole', () => second.ended.has(1));
  t.equal(second.field(1, 'grpc-status'), '0');
  t.equal(scene.runs(), 1);
  await second.reset(3, errorCode.cancel).catch(() => {});
});
