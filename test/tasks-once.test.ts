// A task that is sent again is run once: whoever sends it joins the call in flight, or gets the answer that was given.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { type DataPlane, startDataPlane } from '../scripts/harness/data-plane.ts';
import { errorCode, frameType } from '../scripts/harness/h2-peer.ts';
import { TestClock } from '../scripts/harness/test-clock.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { SidecarSetting } from '../sidecar/grpc/sidecar-settings.ts';
import { parseTimeout } from '../sidecar/grpc/timeout.ts';
import type { TaskRunner } from '../sidecar/proxy/task-run.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import type { TaskStore } from '../sidecar/task/task-store.ts';
import {
  type Answer,
  headThen,
  messageThen,
  ok,
  type Replica,
  silence,
  startReplica,
  taskStatus,
  trailersOnly,
} from './support/answers.ts';
import { TaskCaller, type TaskOptions } from './support/task-caller.ts';
import { grpcFrame, type SeenCall, taskRequest } from './support/upstream.ts';

t.setTimeout(290_000);

const head = { ':status': 200, 'content-type': 'application/grpc' } as const;
const paths = [PROCESS_TASK_PATH, STREAM_PROCESS_PATH] as const;

interface Scene {
  readonly app: Replica;
  readonly plane: DataPlane;
  readonly store: TaskStore<TaskRunner>;
  /** Calls of tasks that the app has seen. */
  readonly runs: readonly SeenCall[];
  readonly content: Record<string, unknown>;
  /** A caller with a connection of its own. */
  caller(options?: { reads?: boolean }): Promise<TaskCaller>;
  /** The app has seen so many; the last one. */
  run(count?: number): Promise<SeenCall>;
}

async function startScene(
  t: Test,
  answer: Answer = silence,
  inbound: object = {},
  clock?: TestClock,
): Promise<Scene> {
  const app = await startReplica(t, answer);
  const content = { name: 'agent', inbound: { app: app.address, ...inbound } };
  const plane = await startDataPlane(t, content, {}, clock);
  const { store } = plane.sidecar.inbound.taskRuns;
  return {
    app,
    plane,
    store,
    runs: app.calls,
    content,
    caller: (options) => TaskCaller.connect(t, plane.inboundPort, options),
    run: (count = 1) =>
      waitUntil(
        `the app has ${count} tasks`,
        () => app.calls.length >= count && app.calls[count - 1]!.complete && app.calls[count - 1],
      ),
  };
}

/** Nothing is left: no call, no caller's place, no entry that runs. */
async function expectNothingRuns(t: Test, { plane, app }: Scene): Promise<void> {
  const { stats, context } = plane.sidecar.inbound;
  await waitUntil('no call is active', () => stats.activeCalls === 0);
  t.equal(context.inboundCalls.size, 0);
  await waitUntil("the app's calls have ended", () =>
    app.calls.every(({ closedWith }) => closedWith !== undefined),
  );
}

const joinsOf = ({ store }: Scene, count: number): Promise<boolean> =>
  waitUntil(`${count} have joined`, () => store.joined === count);

for (const path of paths) {
  t.test(`callers with the same task join its run, and the app gets one call: ${path}`, async (t) => {
    const scene = await startScene(t);
    const [one, other] = [await scene.caller(), await scene.caller()];
    const first = await one.send({ path });
    const run = await scene.run();
    const joined = [await one.send({ path }), await other.send({ path }), await other.send({ path })];
    await joinsOf(scene, 3);
    messageThen(0, { message: 'the answer', fields: { 'x-cost': '3' } })(run.stream, run);
    for (const call of [first, ...joined]) await call.ended();
    t.equal(scene.runs.length, 1);
    t.equal(first.status, 0);
    t.equal(first.deduplicated, undefined, 'the one that ran');
    t.ok(first.body.equals(grpcFrame('the answer')));
    t.equal(first.field('x-cost'), '3');
    for (const call of joined) {
      t.same(call.answer, first.answer);
      t.equal(call.deduplicated, 'joined');
    }
    await expectNothingRuns(t, scene);
  });
}

t.test('a query after the path does not change the task: callers join it, with its time limit', async (t) => {
  const scene = await startScene(t, silence, { timeout: '50s' });
  const caller = await scene.caller();
  const path = `${PROCESS_TASK_PATH}?x=1`;
  const first = await caller.send({ path });
  const run = await scene.run();
  const joined = await caller.send({ path });
  await joinsOf(scene, 1);
  t.equal(run.headers[':path'], path, 'the app gets it as it came, and may refuse it');
  t.ok(parseTimeout(String(run.headers['grpc-timeout'])) <= 50_000);
  // The app takes them for different methods.
  const plain = await caller.send({ path: PROCESS_TASK_PATH });
  const other = await scene.run(2);
  for (const one of [run, other]) messageThen(0, { message: 'the answer' })(one.stream, one);
  for (const call of [first, joined, plain]) await call.ended();
  t.strictSame(
    [first, joined, plain].map(({ deduplicated }) => deduplicated),
    [undefined, 'joined', undefined],
  );
  t.equal(scene.runs.length, 2);
  await expectNothingRuns(t, scene);
});

t.test('a follower gets a stream from its beginning, and then live', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const first = await caller.send({ path: STREAM_PROCESS_PATH });
  const run = await scene.run();
  run.stream.respond(head, { waitForTrailers: true });
  run.stream.on('wantTrailers', () => run.stream.sendTrailers({ 'grpc-status': '0' }));
  run.stream.write(grpcFrame('one'));
  await first.hasBytes(8);
  const second = await caller.send({ path: STREAM_PROCESS_PATH });
  await second.hasBytes(8);
  t.ok(second.body.equals(grpcFrame('one')), 'what had been said');
  run.stream.write(grpcFrame('two'));
  for (const call of [first, second]) await call.hasBytes(16);
  const third = await caller.send({ path: STREAM_PROCESS_PATH });
  run.stream.end(grpcFrame('three'));
  for (const call of [first, second, third]) {
    await call.ended();
    t.ok(call.body.equals(Buffer.concat(['one', 'two', 'three'].map(grpcFrame))));
    t.equal(call.status, 0);
  }
  t.equal(scene.runs.length, 1);
});

const replayed: readonly [what: string, answer: Answer][] = [
  ['a message and trailers', messageThen(0, { fields: { 'x-a': '1', 'x-b-bin': 'AAEC' } })],
  [
    'metadata at both ends, twice the same name, several messages',
    (stream) => {
      stream.respond({ ...head, 'x-head': ['one', 'two'], 'x-bin': 'AP8' }, { waitForTrailers: true });
      stream.on('wantTrailers', () =>
        stream.sendTrailers({ 'grpc-status': '0', 'x-end': ['three', 'four'] }),
      );
      for (const message of ['one', '', 'two']) stream.write(grpcFrame(message));
      stream.end();
    },
  ],
  ['a task that is done in part', taskStatus(1)],
  ['OK without a message', headThen(0)],
  ['OK in the only HEADERS frame', trailersOnly(0, { 'x-what': 'nothing' })],
  ['a request that can not be done', trailersOnly(3, { 'grpc-message': 'no such thing%21', 'x-a': 'b' })],
  ['a request that is out of range, in trailers', messageThen(11)],
];

for (const path of paths) {
  for (const [what, answer] of replayed) {
    t.test(`replayed byte for byte: ${what}, ${path}`, async (t) => {
      const scene = await startScene(t, answer);
      const first = await (await scene.caller()).ask({ path });
      const other = await scene.caller();
      for (let i = 0; i < 3; i++) {
        const again = await other.ask({ path });
        t.same(again.answer, first.answer);
        t.equal(again.deduplicated, 'replayed');
      }
      t.equal(scene.runs.length, 1);
      await expectNothingRuns(t, scene);
    });
  }
}

const error = (status: number): readonly [string, Answer] => [`status ${status}`, trailersOnly(status)];
const notReplayed: readonly (readonly [what: string, answer: Answer])[] = [
  ...[1, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16].map(error),
  ['a task that FAILED', taskStatus(2)],
  ['a task that had a TIMEOUT', taskStatus(3)],
  ['UNAVAILABLE behind a message', messageThen(14)],
  ['a reset', (stream) => stream.close(errorCode.cancel)],
  ['an end without a status', (stream) => stream.respond(head, { endStream: true })],
];

for (const [what, answer] of notReplayed) {
  t.test(`followers get the answer, and later callers run the task again: ${what}`, async (t) => {
    const scene = await startScene(t);
    const caller = await scene.caller();
    const first = await caller.send();
    const run = await scene.run();
    const joined = await caller.send();
    await joinsOf(scene, 1);
    answer(run.stream, run);
    t.same((await joined.ended()).answer, (await first.ended()).answer);
    t.not(first.status, -1);
    t.equal(joined.deduplicated, 'joined');
    scene.app.answer = ok;
    const again = await caller.ask();
    t.equal(again.status, 0);
    t.equal(again.deduplicated, undefined);
    t.equal(scene.runs.length, 2);
    t.equal(scene.store.size, 1);
    await expectNothingRuns(t, scene);
  });
}

const large = (bytes: number): Buffer => {
  const empty = grpcFrame(taskRequest({ id: 'task', input: ' '.repeat(bytes) })).length - bytes;
  return grpcFrame(taskRequest({ id: 'task', input: ' '.repeat(bytes - empty) }));
};
const question = taskRequest({ id: 'task', input: 'question' });
/** A request or an answer with its compressed flag set. */
function compressed(bytes: Buffer): Buffer {
  const message = grpcFrame(bytes);
  message[0] = 1;
  return message;
}
const by = (encoding: string, accepted = 'identity,deflate,gzip,zstd') =>
  ({
    fields: [
      ['grpc-encoding', encoding],
      ['grpc-accept-encoding', accepted],
    ],
  }) as const;
const gzipped = { body: compressed(gzipSync(question)), ...by('gzip') };
const plain = { ...by('identity') };
const alike: readonly [what: string, one: TaskOptions, other: TaskOptions, runs: number][] = [
  ['the same', {}, {}, 1],
  [
    'another trace, and other metadata of the call',
    { fields: [['x-try', '1']] },
    { fields: [['x-try', '2']] },
    1,
  ],
  ['another time left', { fields: [['grpc-timeout', '10S']] }, { fields: [['grpc-timeout', '9S']] }, 1],
  ['another input', {}, { input: 'another' }, 2],
  ['another method', {}, { path: STREAM_PROCESS_PATH }, 2],
  ['another caller', { fields: [['authorization', 'a']] }, { fields: [['authorization', 'b']] }, 2],
  ['a caller without a name', { fields: [['authorization', 'a']] }, {}, 2],
  ['another key', { fields: [['x-api-key', 'a']] }, { fields: [['x-api-key', 'b']] }, 2],
  ['another cookie', { fields: [['cookie', 'a=1']] }, { fields: [['cookie', 'a=2']] }, 2],
  [
    'a cookie in pieces',
    { fields: [['cookie', 'a=1; b=2']] },
    {
      fields: [
        ['cookie', 'a=1'],
        ['cookie', 'b=2'],
      ],
    },
    1,
  ],
  [
    'another first authorization',
    {
      fields: [
        ['authorization', 'a'],
        ['authorization', 'both'],
      ],
    },
    {
      fields: [
        ['authorization', 'b'],
        ['authorization', 'both'],
      ],
    },
    2,
  ],
  ['no id', { id: '' }, { id: '' }, 2],
  ['compressed', gzipped, gzipped, 1],
  ['compressed and not', gzipped, plain, 1],
  [
    'not compressed and compressed',
    plain,
    { body: compressed(zstdCompressSync(question)), ...by('zstd') },
    1,
  ],
  [
    'compressed by one and another',
    gzipped,
    { body: compressed(deflateSync(question)), ...by('deflate') },
    1,
  ],
  ['an encoding that is not used', gzipped, { ...by('gzip') }, 1],
  [
    'compressed by what can not be read',
    { body: compressed(question), ...by('snappy') },
    { body: compressed(question), ...by('snappy') },
    2,
  ],
  ['compressed without an encoding', { body: gzipped.body }, { body: gzipped.body }, 2],
  [
    'more behind what is compressed',
    { body: compressed(Buffer.concat([deflateSync(question), question])), ...by('deflate') },
    { body: compressed(Buffer.concat([deflateSync(question), question])), ...by('deflate') },
    2,
  ],
  [
    'compressed from 65,530 bytes',
    { body: compressed(gzipSync(large(65_535).subarray(5))), ...by('gzip') },
    { body: large(65_535), ...by('gzip') },
    1,
  ],
  [
    'compressed from more than that',
    { body: compressed(gzipSync(large(66_000).subarray(5))), ...by('gzip') },
    { body: compressed(gzipSync(large(66_000).subarray(5))), ...by('gzip') },
    2,
  ],
  ['65,535 bytes', { body: large(65_535) }, { body: large(65_535) }, 1],
  ['more than that', { body: large(65_537) }, { body: large(65_537) }, 2],
  [
    'two messages',
    { body: Buffer.concat([large(20), large(20)]) },
    { body: Buffer.concat([large(20), large(20)]) },
    2,
  ],
  ['no message', { body: Buffer.alloc(0) }, { body: Buffer.alloc(0) }, 2],
];

for (const [what, one, other, runs] of alike) {
  t.test(`${runs === 1 ? 'the same task' : 'not the same task'}: ${what}`, async (t) => {
    const scene = await startScene(t, ok);
    const caller = await scene.caller();
    for (const options of [one, other]) {
      t.equal((await caller.ask(options)).status, 0);
    }
    t.equal(scene.runs.length, runs);
    const sent = one.body ?? grpcFrame(taskRequest({ id: 'task', input: 'question', ...one }));
    t.ok(scene.runs[0]!.body.equals(sent), 'the app has all of it');
  });
}

/** Answers with a message that is compressed, as its caller's `grpc-accept-encoding` allows it. */
const gzipAnswer =
  (status = 0): Answer =>
  (stream, { headers }) => {
    const accepts = String(headers['grpc-accept-encoding'] ?? '').includes('gzip');
    const message = Buffer.from([0x18, status]);
    stream.respond({ ...head, ...(accepts ? { 'grpc-encoding': 'gzip' } : {}) }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(accepts ? compressed(gzipSync(message)) : grpcFrame(message));
  };

t.test('a caller can read the answer of another call', async (t) => {
  const scene = await startScene(t, gzipAnswer());
  const caller = await scene.caller();
  const ask = async (accepted: string | undefined) => {
    const fields = accepted === undefined ? [] : ([['grpc-accept-encoding', accepted]] as const);
    const call = await caller.ask({ fields });
    t.equal(call.status, 0);
    return [
      call.deduplicated,
      call.heads[0]!.some(([name]) => name === 'grpc-encoding') ? 'gzip' : 'plain',
      scene.runs.length,
    ];
  };
  t.strictSame(await ask('identity,gzip'), [undefined, 'gzip', 1]);
  t.strictSame(await ask('gzip, deflate'), ['replayed', 'gzip', 1], 'others read it, too');
  t.strictSame(await ask('deflate'), [undefined, 'plain', 2], 'who does not gets an answer of its own');
  t.strictSame(await ask(' deflate,identity'), ['replayed', 'plain', 2], 'once');
  t.strictSame(await ask(undefined), [undefined, 'plain', 3]);
  t.strictSame(await ask('identity'), ['replayed', 'plain', 3]);
  t.strictSame(await ask('gzip'), ['replayed', 'gzip', 3]);
});

t.test('a caller that joins before the answer begins joins only what it can certainly read', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const send = (accepted: string, options: TaskOptions = {}) =>
    caller.send({ ...options, fields: [['grpc-accept-encoding', accepted]] });
  const first = await send('gzip');
  await scene.run(1);
  const more = await send('deflate,gzip');
  await joinsOf(scene, 1);
  const none = await send('identity');
  const second = await scene.run(2);
  const noneEither = await send('');
  await joinsOf(scene, 2);
  gzipAnswer()(scene.runs[0]!.stream, scene.runs[0]!);
  gzipAnswer()(second.stream, second);
  for (const call of [first, more, none, noneEither]) await call.ended();
  t.strictSame(
    [first, more, none, noneEither].map(({ deduplicated, body }) => [deduplicated, body[0]]),
    [
      [undefined, 1],
      ['joined', 1],
      [undefined, 0],
      ['joined', 0],
    ],
  );
  // An answer that has begun says itself what it is.
  const third = await send('gzip', { id: 'begun' });
  const run = await scene.run(3);
  run.stream.respond(head, { waitForTrailers: true });
  run.stream.on('wantTrailers', () => run.stream.sendTrailers({ 'grpc-status': '0' }));
  run.stream.write(grpcFrame(''));
  await third.hasBytes(5);
  const fourth = await send('identity', { id: 'begun' });
  await joinsOf(scene, 3);
  run.stream.end();
  for (const call of [third, fourth]) t.equal((await call.ended()).status, 0);
  t.equal(scene.runs.length, 3);
  await expectNothingRuns(t, scene);
});

t.test('a task that is FAILED inside gzip runs again, and counts as failed', async (t) => {
  const scene = await startScene(t, gzipAnswer(2));
  const caller = await scene.caller();
  for (const runs of [1, 2]) {
    t.equal((await caller.ask({ ...gzipped })).status, 0);
    t.equal(scene.runs.length, runs);
  }
  scene.app.answer = gzipAnswer(1);
  for (const deduplicated of [undefined, 'replayed'])
    t.equal((await caller.ask({ ...gzipped })).deduplicated, deduplicated);
  const [agent] = scene.plane.sidecar.inbound.tasks.agents.values();
  t.same([...agent!.byOutcome.slice(0, 4)], [0, 1, 2, 0], 'SUCCESS, PARTIAL, FAILED, TIMEOUT');
});

/** What the sidecar says in SETTINGS of the largest request that is run once. */
function announced(caller: TaskCaller): number {
  for (const { type, payload } of caller.peer.frames) {
    if (type !== frameType.settings) continue;
    for (let at = 0; at < payload.length; at += 6)
      if (payload.readUInt16BE(at) === SidecarSetting.TASKS_ONCE) return payload.readUInt32BE(at + 2);
  }
  return 0;
}

t.test('the announcement holds for each request up to that size, in any frames', async (t) => {
  const scene = await startScene(t, ok);
  const caller = await scene.caller();
  await caller.ask();
  const bytes = announced(caller);
  t.ok(bytes >= 65_000, `${bytes} bytes`);
  for (const endApart of [false, true, false, true]) {
    const call = await caller.ask({ body: large(bytes), endApart });
    t.equal(call.status, 0);
  }
  t.equal(scene.runs.length, 2, 'the small one and the large one');
});

t.test('the runner cancels while followers wait: the task continues', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const first = await caller.send();
  const run = await scene.run();
  const joined = await caller.send();
  await joinsOf(scene, 1);
  await first.cancel();
  const late = await caller.send();
  await joinsOf(scene, 2);
  t.equal(run.closedWith, undefined);
  ok(run.stream, run);
  for (const call of [joined, late]) t.equal((await call.ended()).status, 0);
  t.equal((await caller.ask()).deduplicated, 'replayed');
  t.equal(scene.runs.length, 1);
  await expectNothingRuns(t, scene);
});

t.test('one follower cancels: the others are unaffected', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const first = await caller.send();
  const run = await scene.run();
  const joined = await caller.send();
  await joinsOf(scene, 1);
  await joined.cancel();
  await waitUntil('it has gone', () => scene.plane.sidecar.inbound.stats.activeCalls === 1);
  ok(run.stream, run);
  t.equal((await first.ended()).status, 0);
  await expectNothingRuns(t, scene);
});

t.test("all callers cancel: the app's call ends at once, and the task can be sent again", async (t) => {
  for (const runnerFirst of [true, false]) {
    const scene = await startScene(t);
    const caller = await scene.caller();
    const first = await caller.send();
    const run = await scene.run();
    const joined = await caller.send();
    await joinsOf(scene, 1);
    for (const call of runnerFirst ? [first, joined] : [joined, first]) await call.cancel();
    await waitUntil('the app heard', () => run.closedWith === errorCode.cancel);
    t.equal(scene.store.size, 0);
    scene.app.answer = ok;
    t.equal((await caller.ask()).status, 0);
    t.equal(scene.runs.length, 2);
    await expectNothingRuns(t, scene);
  }
});

t.test("the runner's connection is lost: a retry gets the answer of the same run", async (t) => {
  for (const path of paths) {
    const scene = await startScene(t);
    const [lost, other] = [await scene.caller(), await scene.caller()];
    await lost.send({ path });
    const run = await scene.run();
    lost.vanish();
    await waitUntil('it was found out', () => scene.plane.sidecar.inbound.stats.activeConnections === 1);
    t.equal(run.closedWith, undefined);
    const retry = await other.send({ path });
    await joinsOf(scene, 1);
    ok(run.stream, run);
    t.equal((await retry.ended()).status, 0);
    t.equal(retry.deduplicated, 'joined');
    t.equal(scene.runs.length, 1);
    await expectNothingRuns(t, scene);
  }
});

t.test('the answer arrives without a caller: a retry gets it', async (t) => {
  const scene = await startScene(t);
  const lost = await scene.caller();
  await lost.send({ path: STREAM_PROCESS_PATH });
  const run = await scene.run();
  run.stream.respond(head, { waitForTrailers: true });
  run.stream.write(grpcFrame('one'));
  lost.vanish();
  await waitUntil('it was found out', () => scene.plane.sidecar.inbound.stats.activeConnections === 0);
  run.stream.on('wantTrailers', () => run.stream.sendTrailers({ 'grpc-status': '0' }));
  run.stream.end(grpcFrame('two'));
  await expectNothingRuns(t, scene);
  const retry = await (await scene.caller()).ask({ path: STREAM_PROCESS_PATH });
  t.ok(retry.body.equals(Buffer.concat([grpcFrame('one'), grpcFrame('two')])));
  t.equal(retry.deduplicated, 'replayed');
  t.equal(scene.runs.length, 1);
});

t.test("no caller returns: the app's call ends after the grace period, not before", async (t) => {
  const scene = await startScene(t);
  scene.store.settings = { ...scene.store.settings, lingerMs: 300 };
  const lost = await scene.caller();
  await lost.send();
  const run = await scene.run();
  const lostAtMs = performance.now();
  lost.vanish();
  await waitUntil('the app heard', () => run.closedWith === errorCode.cancel);
  t.ok(performance.now() - lostAtMs >= 299);
  t.equal(scene.store.size, 0);
  await expectNothingRuns(t, scene);
});

t.test("the retry cancels, too: the app's call ends at once", async (t) => {
  const scene = await startScene(t);
  const [lost, other] = [await scene.caller(), await scene.caller()];
  await lost.send();
  const run = await scene.run();
  lost.vanish();
  await waitUntil('it was found out', () => scene.plane.sidecar.inbound.stats.activeConnections === 1);
  const retry = await other.send();
  await joinsOf(scene, 1);
  await retry.cancel();
  await waitUntil('the app heard', () => run.closedWith === errorCode.cancel);
  await expectNothingRuns(t, scene);
});

/** A stream of `count` messages of 10,000 bytes as fast as its reader takes them; its length is `count` × 10,005. */
function longAnswer(count: number): Answer {
  return (stream) => {
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    let left = count;
    const more = (): void => {
      while (left > 0) {
        left--;
        if (!stream.write(grpcFrame(Buffer.alloc(10_000, left)))) {
          stream.once('drain', more);
          return;
        }
      }
      stream.end();
    };
    more();
  };
}

const tokens = { path: STREAM_PROCESS_PATH };

t.test('a slow follower delays no other', async (t) => {
  const scene = await startScene(t);
  const [quick, slow] = [await scene.caller(), await scene.caller({ reads: false })];
  const first = await quick.send(tokens);
  const run = await scene.run();
  const joined = await slow.send(tokens);
  await joinsOf(scene, 1);
  longAnswer(80)(run.stream, run);
  t.equal((await first.ended()).body.length, 80 * 10_005);
  await joined.hasBytes(65_535);
  t.equal(joined.body.length, 65_535, 'what it has room for');
  await slow.read(joined, 1_000_000);
  await joined.ended();
  t.same(joined.answer, first.answer);
  await expectNothingRuns(t, scene);
});

t.test('a slow runner delays no follower', async (t) => {
  for (const joinsLate of [false, true]) {
    const scene = await startScene(t);
    const [quick, slow] = [await scene.caller(), await scene.caller({ reads: false })];
    const first = await slow.send(tokens);
    const run = await scene.run();
    if (joinsLate) {
      longAnswer(80)(run.stream, run);
      await first.hasBytes(65_535);
    }
    const joined = await quick.send(tokens);
    await joinsOf(scene, 1);
    if (!joinsLate) longAnswer(80)(run.stream, run);
    t.equal((await joined.ended()).body.length, 80 * 10_005);
    t.equal(joined.status, 0);
    await first.hasBytes(65_535);
    t.equal(first.body.length, 65_535);
    await slow.read(first, 1_000_000);
    await first.ended();
    t.same(first.answer, joined.answer);
    await expectNothingRuns(t, scene);
  }
});

t.test('a slow runner disconnects, and the followers get their answer', async (t) => {
  for (const leave of ['cancels', 'is lost']) {
    const scene = await startScene(t);
    const [quick, slow] = [await scene.caller(), await scene.caller({ reads: false })];
    const first = await slow.send(tokens);
    const run = await scene.run();
    longAnswer(90)(run.stream, run);
    await first.hasBytes(65_535);
    if (leave === 'is lost') {
      slow.vanish();
      await waitUntil('it was found out', () => scene.plane.sidecar.inbound.stats.activeConnections === 1);
    }
    const joined = await quick.send(tokens);
    // The app may have ended by then: nobody held it up.
    await waitUntil('it is found', () => scene.store.joined + scene.store.replayed === 1);
    if (leave === 'cancels') await first.cancel();
    t.equal((await joined.ended()).body.length, 90 * 10_005, `the runner ${leave}`);
    t.equal(joined.status, 0);
    await expectNothingRuns(t, scene);
  }
});

t.test('an answer too large to keep is given once, and its task does not run again', async (t) => {
  const scene = await startScene(t, silence, { tasks: { max_answer_bytes: 100_000 } });
  const [caller, slow] = [await scene.caller(), await scene.caller({ reads: false })];
  const first = await caller.send(tokens);
  const run = await scene.run();
  const [joined, lags] = [await caller.send(tokens), await slow.send(tokens)];
  await joinsOf(scene, 2);
  longAnswer(100)(run.stream, run);
  t.equal((await first.ended()).body.length, 100 * 10_005);
  t.same((await joined.ended()).answer, first.answer, 'who keeps up gets all of it');
  for (let i = 0; i < 2; i++) {
    const late = await caller.ask(tokens);
    t.equal(late.status, 9);
    t.equal(late.reason, 'task_not_repeatable');
  }
  t.equal(scene.runs.length, 1);
  await slow.read(lags, 1_000_000);
  await lags.ended();
  t.equal(lags.status, 14, 'who lags behind is told that it did not get all');
  t.equal(lags.reason, 'stream_cut');
  t.ok(scene.store.bytes < 100_000, `${scene.store.bytes} bytes`);
  await expectNothingRuns(t, scene);
});

t.test('new answers replace old ones, and a task whose answer was dropped does not run again', async (t) => {
  const answer = messageThen(0, { message: Buffer.alloc(10_000) });
  const scene = await startScene(t, answer, { tasks: { max_bytes: 50_000 } });
  const caller = await scene.caller();
  for (let i = 0; i < 20; i++) t.equal((await caller.ask({ id: `task ${i}` })).status, 0);
  const oldest = await caller.ask({ id: 'task 0' });
  t.equal(oldest.status, 9);
  t.equal(oldest.reason, 'task_not_repeatable');
  t.equal((await caller.ask({ id: 'task 19' })).deduplicated, 'replayed');
  t.equal(scene.runs.length, 20);
});

t.test('tasks beyond the table are refused with a time to retry', async (t) => {
  const scene = await startScene(t);
  scene.store.settings = { ...scene.store.settings, maxEntries: 2 };
  const caller = await scene.caller();
  const running = [await caller.send({ id: 'a' }), await caller.send({ id: 'b' })];
  await scene.run(2);
  const refused = await caller.ask({ id: 'c' });
  t.equal(refused.status, 8);
  t.equal(refused.reason, 'overloaded');
  t.ok(Number(refused.field('grpc-retry-pushback-ms')) > 0);
  for (const run of scene.runs) ok(run.stream, run);
  for (const call of running) await call.ended();
  scene.app.answer = ok;
  t.equal((await caller.ask({ id: 'c' })).status, 0);
  await expectNothingRuns(t, scene);
});

t.test(
  "the runner's deadline expires before a follower's: the task continues for the follower",
  async (t) => {
    const clock = new TestClock();
    const scene = await startScene(t, silence, {}, clock);
    const caller = await scene.caller();
    const first = await caller.send({ fields: [['grpc-timeout', '500m']] });
    const run = await scene.run();
    const joined = await caller.send({ fields: [['grpc-timeout', '30S']] });
    await joinsOf(scene, 1);
    clock.advance(510);
    await first.ended();
    t.equal(first.status, 4);
    t.equal(first.reason, 'deadline');
    t.equal(run.closedWith, undefined);
    const { stats } = scene.plane.sidecar.inbound;
    const counted = (code: number) => stats.calls.of(PROCESS_TASK_PATH).byStatus[code]?.count ?? 0;
    t.equal(counted(4), 1, 'counted as its caller saw it, and then');
    ok(run.stream, run);
    t.equal((await joined.ended()).status, 0);
    t.equal(scene.runs.length, 1);
    await expectNothingRuns(t, scene);
    t.strictSame(
      [counted(0), counted(4), stats.totalCalls, stats.totalErrors],
      [1, 1, 2, 1],
      'each call once',
    );
  },
);

t.test('the app ends a run at its deadline: followers with remaining time get another run', async (t) => {
  for (const [how, end] of [
    ['a status', trailersOnly(4)],
    ['a reset', (stream) => stream.close(errorCode.cancel)],
  ] as [string, Answer][]) {
    const scene = await startScene(t, silence, { max_concurrent_calls: 1 });
    const caller = await scene.caller();
    const first = await caller.send({ fields: [['grpc-timeout', '300m']] });
    const run = await scene.run();
    const joined = [await caller.send({ fields: [['grpc-timeout', '90S']] }), await caller.send()];
    await joinsOf(scene, 2);
    t.equal((await first.ended()).reason, 'deadline');
    end(run.stream, run);
    const again = await scene.run(2);
    t.same(again.body, run.body, `${how}: the same request`);
    const leftMs = parseTimeout(String(again.headers['grpc-timeout']));
    t.ok(leftMs > 10_000, `the time of its own caller: ${leftMs} ms`);
    await joinsOf(scene, 3);
    ok(again.stream, again);
    for (const call of joined) t.equal((await call.ended()).status, 0);
    t.equal(joined[1]!.deduplicated, 'joined');
    t.equal(scene.runs.length, 2);
    await expectNothingRuns(t, scene);
  }
});

t.test('an app that ends a run before its deadline has answered all callers', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const first = await caller.send({ fields: [['grpc-timeout', '90S']] });
  const run = await scene.run();
  const joined = await caller.send();
  await joinsOf(scene, 1);
  trailersOnly(4)(run.stream, run);
  for (const call of [first, joined]) t.equal((await call.ended()).status, 4);
  t.equal(scene.runs.length, 1);
  await expectNothingRuns(t, scene);
});

t.test("a follower's deadline expires: the task continues, and the follower can retry", async (t) => {
  const clock = new TestClock();
  const scene = await startScene(t, silence, {}, clock);
  const caller = await scene.caller();
  const first = await caller.send();
  const run = await scene.run();
  const joined = await caller.send({ fields: [['grpc-timeout', '200m']] });
  await joinsOf(scene, 1);
  clock.advance(210);
  await joined.ended();
  t.equal(joined.status, 4);
  t.equal(joined.reason, 'deadline');
  t.equal(run.closedWith, undefined);
  const again = await caller.send();
  await joinsOf(scene, 2);
  ok(run.stream, run);
  for (const call of [first, again]) t.equal((await call.ended()).status, 0);
  await expectNothingRuns(t, scene);
});

t.test("the deadlines of all callers expire: the app's call ends", async (t) => {
  const clock = new TestClock();
  const scene = await startScene(t, silence, { timeout: '700ms' }, clock);
  const caller = await scene.caller();
  const first = await caller.send({ fields: [['grpc-timeout', '300m']] });
  const run = await scene.run();
  const joined = await caller.send();
  await joinsOf(scene, 1);
  clock.advance(310);
  t.equal((await first.ended()).reason, 'deadline');
  t.equal(run.closedWith, undefined, 'the other has time left');
  clock.advance(400);
  t.equal((await joined.ended()).reason, 'deadline');
  await waitUntil('the app heard', () => run.closedWith === errorCode.cancel);
  t.equal(scene.store.size, 0);
  await expectNothingRuns(t, scene);
});

t.test('with deduplication off, each task runs each time, and nothing is announced', async (t) => {
  const scene = await startScene(t, ok, { tasks: { deduplicate: false } });
  const caller = await scene.caller();
  for (let i = 0; i < 3; i++) t.equal((await caller.ask()).deduplicated, undefined);
  t.equal(scene.runs.length, 3);
  t.equal(announced(caller), 0);
});

t.test('a reload turns deduplication off and on, and callers reconnect to learn of it', async (t) => {
  const scene = await startScene(t, ok);
  const { app, plane, content } = scene;
  const caller = await scene.caller();
  await caller.ask();
  await plane.apply({ ...content, inbound: { app: app.address, tasks: { deduplicate: false } } });
  await waitUntil('the caller was asked to go', () => caller.peer.goaway !== undefined);
  const second = await scene.caller();
  t.equal((await second.ask()).deduplicated, undefined);
  t.equal(announced(second), 0);
  t.equal(scene.runs.length, 2);
  await plane.apply(content);
  const third = await scene.caller();
  t.equal((await third.ask()).deduplicated, 'replayed');
  t.not(announced(third), 0);
  t.equal(scene.runs.length, 2);
});

t.test('a draining sidecar lets followers finish', async (t) => {
  const scene = await startScene(t);
  const [one, other] = [await scene.caller(), await scene.caller()];
  const first = await one.send();
  const run = await scene.run();
  const joined = await other.send();
  await joinsOf(scene, 1);
  const drained = scene.plane.sidecar.drain();
  ok(run.stream, run);
  for (const call of [first, joined]) t.equal((await call.ended()).status, 0);
  await drained;
});

t.test('a joined task that ends with its sidecar is not reported as unprocessed', async (t) => {
  for (const runnerFirst of [true, false]) {
    const scene = await startScene(t);
    const [one, other] = [await scene.caller(), await scene.caller()];
    const [first, joined] = [runnerFirst ? one : other, runnerFirst ? other : one];
    const calls = [await first.send()];
    await scene.run();
    calls.push(await joined.send());
    await joinsOf(scene, 1);
    scene.plane.sidecar.close();
    for (const call of calls) t.equal((await call.ended()).reason, 'stream_cut');
  }
});

t.test('the app dies during a task: all callers get an error, and the next one runs it again', async (t) => {
  const scene = await startScene(t);
  const caller = await scene.caller();
  const first = await caller.send();
  await scene.run();
  const joined = await caller.send();
  await joinsOf(scene, 1);
  for (const session of scene.app.sessions) session.destroy();
  t.same((await joined.ended()).answer, (await first.ended()).answer);
  t.equal(first.status, 14);
  scene.app.answer = ok;
  t.equal((await caller.ask()).status, 0);
  t.equal(scene.runs.length, 2);
  await expectNothingRuns(t, scene);
});

t.test('a follower takes no place, and is not refused when all are taken', async (t) => {
  const scene = await startScene(t, silence, { max_concurrent_calls: 1 });
  const caller = await scene.caller();
  const first = await caller.send();
  const run = await scene.run();
  const joined = [await caller.send(), await caller.send()];
  await joinsOf(scene, 2);
  ok(run.stream, run);
  for (const call of [first, ...joined]) t.equal((await call.ended()).status, 0);
  scene.app.answer = silence;
  await caller.send({ id: 'other' });
  await scene.run(2);
  t.equal((await caller.ask()).deduplicated, 'replayed');
  const refused = await caller.ask({ id: 'third' });
  t.equal(refused.reason, 'overloaded', 'a task of its own does need one');
  t.equal(scene.store.size, 2, 'and is not kept as one that has run');
});

t.test('of ten thousand tasks only their answers remain', async (t) => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const scene = await startScene(t, ok);
  const ended: WeakRef<object>[] = [];
  scene.plane.sidecar.inbound.context.observer = {
    onCallEnd(call) {
      if (ended.length % 100 === 0) ended.push(new WeakRef(call));
      else ended.length++;
    },
  };
  const caller = await scene.caller();
  const callers: TaskCaller[] = [caller];
  for (let round = 0; round < 100; round++) {
    // Their records are the test's own: a new caller each time.
    const one = await scene.caller();
    callers[0] = one;
    const calls = await Promise.all(Array.from({ length: 100 }, (_, i) => one.send({ id: `${round}/${i}` })));
    await Promise.all(calls.map((call) => call.ended()));
    if (calls.some(({ status }) => status !== 0)) t.fail('a call failed');
    one.vanish();
  }
  t.equal(scene.runs.length, 10_000);
  t.equal(scene.store.size, 10_000);
  t.ok(scene.store.bytes < 16 << 20, `${scene.store.bytes} bytes`);
  await expectNothingRuns(t, scene);
  const refs = ended.filter((ref) => ref !== undefined);
  t.equal(refs.length, 100);
  await waitUntil('the calls are gone', () => {
    collectGarbage();
    // The last head of a connection, and what the last event has touched, may stay for a moment.
    return refs.filter((ref) => ref.deref() !== undefined).length <= 2;
  });
  const last = await scene.caller();
  for (const id of ['0/0', '50/50', '99/99']) t.equal((await last.ask({ id })).deduplicated, 'replayed');
  t.equal((await last.ask({ id: 'another' })).status, 0);
  t.equal(scene.store.size, 10_000, 'the oldest has made room');
});
