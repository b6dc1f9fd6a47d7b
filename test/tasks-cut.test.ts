// Two sidecars whose connection breaks at any byte of a task's call: the caller gets its answer, and the app runs once.
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode } from '../scripts/harness/h2-peer.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { later, messageThen, silence, startReplica } from './support/answers.ts';
import { type Cut, type Cutter, startCutter } from './support/cutter.ts';
import { type CallerStream, TaskCaller } from './support/task-caller.ts';
import { grpcFrame, taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

const message = 'an answer that is long enough to be cut at several of its bytes';

const answer = messageThen(0, { message, fields: { 'x-cost': '7' } });

interface Scene {
  readonly cutter: Cutter;
  /** How often the app has run. */
  readonly runs: () => number;
  /** Cuts the connection of a call that begins with a connection of its own; `undefined`: does not. */
  call(id: string, path: string, cut?: Cut): Promise<CallerStream>;
}

async function startScene(t: Test): Promise<Scene> {
  const app = await startReplica(t, answer);
  const theirs = await startDataPlane(t, { name: 'agent', inbound: { app: app.address } });
  const cutter = await startCutter(t, theirs.inboundPort);
  const ours = await startDataPlane(t, {
    name: 'caller',
    ...oneCluster([cutter.address], {
      retry: { max_attempts: 3, backoff: { base: '1ms', max: '2ms' }, budget: { min_concurrent: 100 } },
    }),
  });
  const caller = await TaskCaller.connect(t, ours.outboundPort);
  return {
    cutter,
    runs: () => app.calls.length,
    call: async (id, path, cut) => {
      cutter.drop();
      await waitUntil('no connection is left', () => cutter.open === 0);
      cutter.next = cut;
      return caller.ask({ id, path });
    },
  };
}

/** A caller that asks again for as long as it hears UNAVAILABLE; what it got at first, and in the end. */
async function persist(
  { call }: Scene,
  id: string,
  path: string,
  cut: Cut,
): Promise<{ first: CallerStream; last: CallerStream }> {
  const first = await call(id, path, cut);
  let last = first;
  // An endpoint that was not reached is left alone for a second.
  if (first.status === 14)
    await waitUntil('the caller has an answer', async () => {
      last = await call(id, path);
      return last.status !== 14;
    });
  return { first, last };
}

/**
 * What a whole call takes. Fields that come again and again are written shorter (HPACK's index), and a cut behind the last
 * byte of a call would wait for the next PING.
 */
async function fewestBytes({ call, cutter }: Scene, path: string, from: Cut['from']): Promise<number> {
  let bytes = Number.POSITIVE_INFINITY;
  for (let calls = 0; calls < 8; calls++) {
    // As long as the ids of the calls that are cut.
    await call(`${from} w0${calls}`, path);
    bytes = Math.min(bytes, cutter.carried[from]);
  }
  return bytes;
}

const said = (call: CallerStream): unknown => ({
  body: call.body.toString(),
  status: call.status,
  cost: call.field('x-cost'),
});

for (const path of [PROCESS_TASK_PATH, STREAM_PROCESS_PATH]) {
  for (const from of ['client', 'server'] as const) {
    for (const serverStays of [false, true]) {
      const how = serverStays ? ', and only the caller notices' : '';
      t.test(`${path}, cut at any byte from the ${from}${how}`, async (t) => {
        const scene = await startScene(t);
        const whole = await scene.call('whole', path);
        t.equal(whole.status, 0);
        t.ok(whole.body.equals(grpcFrame(message)));
        const bytes = await fewestBytes(scene, path, from);
        let tries = 0;
        let atOnce = 0;
        let committed = 0;
        for (let atByte = 1; atByte <= bytes; ) {
          const before = scene.runs();
          const { first, last } = await persist(scene, `${from} ${atByte}`, path, {
            from,
            atByte,
            serverStays,
          });
          t.same(said(last), said(whole), `byte ${atByte}`);
          t.equal(scene.runs() - before, 1, `byte ${atByte}: the app ran once`);
          tries++;
          let step = atByte < bytes - 60 ? 7 : 3;
          if (first.status === 0) {
            atOnce++;
          } else if (first.heads.length === 2) {
            // What has reached the caller can't be begun anew: it is told, and asks again itself.
            t.equal(first.reason, 'stream_cut', `byte ${atByte}`);
            committed++;
          } else {
            t.match(first.reason, /^(connect_failed|no_endpoint)$/, `byte ${atByte}`);
            step = 50;
          }
          atByte += step;
        }
        // A cut behind the last byte comes after the answer.
        await waitUntil('each call was cut', () => scene.cutter.cuts === tries);
        t.comment(
          `${tries} cuts of ${bytes} bytes: ${atOnce} mended, ${committed} behind the answer's beginning`,
        );
        t.ok(atOnce >= 9);
      });
    }
  }
}

t.test('a retry joins a slow attempt, and does not run the task again', async (t) => {
  for (const limit of [{ retry: { per_try_timeout: '600ms' } }, { first_chunk_timeout: '600ms' }]) {
    const clock = new TestClock();
    const app = await startReplica(t, later(900, answer, clock));
    const theirs = await startDataPlane(t, { name: 'agent', inbound: { app: app.address } }, {}, clock);
    const retry = { max_attempts: 3, backoff: { base: '1ms', max: '2ms' }, budget: { min_concurrent: 100 } };
    const settings = { ...limit, retry: { ...retry, ...limit.retry } };
    const cluster = oneCluster([`127.0.0.1:${theirs.inboundPort}`], settings);
    const ours = await startDataPlane(t, { name: 'caller', ...cluster }, {}, clock);
    const { store } = theirs.sidecar.inbound.taskRuns;
    /** The attempt that runs has taken too long, and the next one has come. */
    const joins = async (count: number): Promise<void> => {
      clock.advance(610);
      clock.advance(20);
      await waitUntil('the next attempt has joined', () => store.joined === count);
    };
    const caller = await TaskCaller.connect(t, ours.outboundPort);
    const call = await caller.send({ id: 'slow' });
    await waitUntil('the app has it', () => app.calls[0]?.complete);
    await joins(1);
    clock.advance(300);
    await call.ended();
    t.equal(call.status, 0);
    t.equal(call.deduplicated, 'joined');
    t.equal(app.calls.length, 1);
    t.equal(store.joined, 1);
    // It never answers: when all attempts are used up, nobody waits any more.
    app.answer = silence;
    const unanswered = await caller.send({ id: 'silent' });
    await waitUntil('the app has it', () => app.calls[1]?.complete);
    await joins(2);
    await joins(3);
    clock.advance(610);
    t.equal((await unanswered.ended()).status, 4);
    await waitUntil('the app heard', () => app.calls[1]!.closedWith === errorCode.cancel);
    t.equal(app.calls.length, 2);
    t.equal(store.joined, 3);
    // Both sides read what is compressed; of what they can't read neither promises anything.
    app.answer = later(900, answer, clock);
    const packed = grpcFrame(gzipSync(taskRequest({ id: 'packed', input: 'question' })));
    packed[0] = 1;
    const send = (encoding: string) => caller.send({ body: packed, fields: [['grpc-encoding', encoding]] });
    const read = await send('gzip');
    await waitUntil('the app has it', () => app.calls[2]?.complete);
    await joins(4);
    clock.advance(300);
    t.match(await read.ended(), { status: 0, deduplicated: 'joined' });
    t.equal(app.calls.length, 3);
    const unread = await send('snappy');
    await waitUntil('the app has it', () => app.calls[3]?.complete);
    clock.advance(610);
    t.match(await unread.ended(), { status: 4, deduplicated: undefined });
    t.equal(app.calls.length, 4);
  }
});
