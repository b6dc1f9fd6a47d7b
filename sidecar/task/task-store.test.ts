// The task store: join, replay, refusal, bounds and callers that leave.

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { checkArrows } from '../../test/support/arrows.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { Status } from '../grpc/status.ts';
import { KeptAnswers } from './kept-answers.ts';
import { bytesField, stringField, varintField } from './protobuf.ts';
import { ReplayLog } from './replay-log.ts';
import { TaskStatus } from './task-message.ts';
import {
  type Begun,
  fingerprintOf,
  isReplayable,
  TASK_ARROWS,
  TASK_STORE_DEFAULTS,
  type TaskEntry,
  type TaskReader,
  TaskStore,
  type TaskStoreSettings,
  taskFingerprint,
  taskScope,
} from './task-store.ts';

const OK = { status: Status.OK, taskStatus: TaskStatus.SUCCESS, trailers: ['grpc-status', '0'] };
const UNAVAILABLE = { status: Status.UNAVAILABLE, taskStatus: -1, trailers: ['grpc-status', '14'] };
const HEAD = [':status', '200', 'content-type', 'application/grpc'];

/** A reader that reads everything available whenever it is notified. */
class Subscriber {
  told = 0;
  received = '';
  reader: TaskReader<string> | undefined = undefined;
  paused = false;
  onTaskProgress(): void {
    this.told++;
    if (!this.paused) this.read();
  }
  read(): void {
    for (let bytes = this.reader?.next(); bytes !== undefined; bytes = this.reader?.next())
      this.received += bytes.toString('latin1');
  }
}

function storeWith(settings: Partial<TaskStoreSettings> = {}) {
  const store = new TaskStore<string>({ ...TASK_STORE_DEFAULTS, ...settings });
  const begin = (taskId: string, nowMs = 0, fingerprint = 'f') => {
    const subscriber = new Subscriber();
    const begun = store.begin(
      fingerprintOf(`${taskId} ${fingerprint}`),
      `runner of ${taskId}`,
      subscriber,
      nowMs,
    );
    if ('reader' in begun) subscriber.reader = begun.reader;
    return { ...begun, subscriber } as Begun<string> & {
      subscriber: Subscriber;
      entry: TaskEntry<string>;
      reader: TaskReader<string>;
    };
  };
  const append = (entry: TaskEntry<string>, text: string): void => {
    const bytes = Buffer.from(`..${text}..`, 'latin1');
    store.append(entry, bytes, 2, bytes.length - 2);
  };
  return { store, begin, append };
}

t.test('one call runs a task, a duplicate joins it, and a later one gets the same answer', async (t) => {
  const { store, begin, append } = storeWith();
  const first = begin('a');
  t.match(first, { decision: 'run', entry: { runner: 'runner of a' } });
  const early = begin('a');
  t.equal(early.decision, 'join');
  store.head(first.entry, HEAD);
  append(first.entry, 'one ');
  const late = begin('a');
  late.subscriber.read();
  t.strictSame([early.subscriber.received, late.subscriber.received], ['one ', 'one '], 'from its beginning');
  append(first.entry, 'two ');
  t.equal(late.reader.end, undefined);
  store.finish(first.entry, OK, 10);
  const after = begin('a', 20);
  t.equal(after.decision, 'replay');
  after.subscriber.read();
  for (const { subscriber, reader } of [early, late, after]) {
    t.equal(subscriber.received, 'one two ');
    t.strictSame([reader.head, reader.end], [HEAD, OK]);
    t.equal(store.leave(reader, 'cancelled', 20), 'go_on');
  }
  t.equal(begin('b').decision, 'run', 'another task');
  t.strictSame([store.joined, store.replayed, store.size], [2, 1, 2]);
  store.finish(first.entry, UNAVAILABLE, 30);
  t.equal(begin('a', 30).decision, 'replay', 'finished once');
});

t.test('the same id with another request is another task', async (t) => {
  const { store, begin, append } = storeWith();
  const one = begin('a', 0, 'f');
  const other = begin('a', 0, 'g');
  t.match(other, { decision: 'run' });
  append(one.entry, 'one');
  append(other.entry, 'other');
  store.finish(one.entry, OK, 0);
  store.finish(other.entry, OK, 0);
  const again = begin('a', 0, 'g');
  again.subscriber.read();
  t.equal(again.subscriber.received, 'other');
});

t.test('the store keeps only answers that would be the same again', async (t) => {
  const kept = Object.entries(Status).filter(([, status]) => isReplayable(status, -1));
  t.strictSame(
    kept.map(([name]) => name),
    ['OK', 'INVALID_ARGUMENT', 'OUT_OF_RANGE'],
  );
  const tasks = Object.entries(TaskStatus).filter(([, status]) => isReplayable(Status.OK, status));
  t.strictSame(
    tasks.map(([name]) => name),
    ['SUCCESS', 'PARTIAL'],
  );

  const { store, begin, append } = storeWith();
  const first = begin('a');
  const joined = begin('a');
  append(first.entry, 'some');
  store.finish(first.entry, UNAVAILABLE, 5);
  t.strictSame(
    [joined.subscriber.received, joined.reader.end],
    ['some', UNAVAILABLE],
    'who has joined gets it',
  );
  t.equal(begin('a', 5).decision, 'run', 'who comes then runs it anew');
  t.equal(store.leave(joined.reader, 'cancelled', 6), 'go_on');
  t.equal(store.size, 1);
});

t.test('age and number bound the store, and a running task is not forgotten', async (t) => {
  const { store, begin } = storeWith({ maxAgeMs: 1_000, maxEntries: 3 });
  for (const id of ['a', 'b']) store.finish(begin(id).entry, OK, id === 'a' ? 0 : 500);
  t.equal(begin('a', 999).decision, 'replay');
  t.equal(begin('a', 1_000).decision, 'run', 'too old, swept or not');
  t.equal(begin('c', 1_000).decision, 'run');
  t.equal(begin('b', 1_000).decision, 'replay');
  t.equal(begin('d', 1_000).decision, 'run', 'in place of b');
  t.match(begin('e', 1_000), { decision: 'refuse', reason: 'full' });
  t.equal(begin('c', 9_000).decision, 'join', 'however old');
  t.equal(store.size, 3);

  const old = storeWith({ maxAgeMs: 1_000 });
  for (let i = 0; i < 100; i++) old.store.finish(old.begin(`task-${i}`, i).entry, OK, i);
  let nowMs = 100;
  for (let i = 0; i < 30; i++) {
    nowMs = old.store.nextAtMs(nowMs);
    if (nowMs === Number.POSITIVE_INFINITY) break;
    old.store.tick(nowMs);
    nowMs += 1;
  }
  t.strictSame([old.store.size, old.store.bytes], [0, 0], 'time alone empties it');
});

t.test('an answer that does not fit is not replayed, and its task does not run twice', async (t) => {
  const { store, begin, append } = storeWith({ maxAnswerBytes: 4_096 });
  const large = begin('large');
  const quick = begin('large');
  const slow = begin('large');
  slow.subscriber.paused = true;
  for (let i = 0; i < 3; i++) append(large.entry, 'x'.repeat(1_000));
  t.equal(slow.reader.lost, false);
  for (let i = 0; i < 3; i++) append(large.entry, 'y'.repeat(1_000));
  t.match(begin('large'), { decision: 'refuse', reason: 'too_large' });
  t.equal(slow.reader.lost, true, 'more than the bound behind');
  t.strictSame([slow.reader.next(), slow.reader.end], [undefined, undefined]);
  for (let i = 0; i < 300; i++) append(large.entry, 'z'.repeat(1_000));
  t.ok(store.bytes < 4_096 + 2 * 65_536, `${store.bytes} bytes, though 300,000 have passed`);
  store.finish(large.entry, OK, 0);
  t.equal(quick.subscriber.received.length, 306_000, 'who keeps up gets all of it');
  t.equal(quick.reader.end, OK);
  t.match(begin('large', 10), { decision: 'refuse', reason: 'too_large' });
  t.equal(store.leave(quick.reader, 'cancelled', 0), 'go_on');
  t.ok(store.bytes < 2_000);

  const full = storeWith({ maxBytes: 20_000 });
  for (let i = 0; i < 8; i++) {
    const { entry } = full.begin(`task-${i}`);
    full.append(entry, 'x'.repeat(4_000));
    full.store.finish(entry, OK, i);
  }
  t.ok(full.store.bytes <= 20_000);
  t.match(full.begin('task-0'), { decision: 'refuse', reason: 'dropped' });
  t.equal(full.begin('task-7').decision, 'replay');
  for (let i = 0; i < 12; i++) full.begin(`running-${i}`);
  t.ok(full.store.bytes <= 20_000, `${full.store.bytes} bytes: those that run need room, too`);
});

t.test('an answer with readers is not dropped, and the latest requested one is dropped last', async (t) => {
  const { store, begin, append } = storeWith({ maxBytes: 10_000 });
  const done = (id: string, bytes: number): void => {
    const { entry } = begin(id);
    append(entry, id.repeat(bytes));
    store.finish(entry, OK, 0);
  };
  for (const id of ['a', 'b', 'c']) done(id, 2_000);
  const slow = begin('a');
  begin('b').reader.next();
  for (const id of ['d', 'e', 'f', 'g']) done(id, 2_000);
  slow.subscriber.read();
  t.equal(slow.subscriber.received, 'a'.repeat(2_000));
  t.match(begin('c'), { reason: 'dropped' });
  store.leave(slow.reader, 'cancelled', 0);

  const asked = storeWith({ maxBytes: 10_000 });
  const finished = (id: string): void => {
    const { entry } = asked.begin(id);
    asked.append(entry, id.repeat(2_000));
    asked.store.finish(entry, OK, 0);
  };
  for (const id of ['a', 'b', 'c']) finished(id);
  asked.store.leave(asked.begin('a').reader, 'cancelled', 0);
  for (const id of ['d', 'e']) finished(id);
  t.strictSame([asked.begin('b').decision, asked.begin('a').decision], ['refuse', 'replay']);
});

t.test('readers receive an answer to its end that is not kept', async (t) => {
  const { store, begin, append } = storeWith({ maxBytes: 10_000, maxAnswerBytes: 8_000 });
  const failing = begin('a');
  const slow = begin('a');
  slow.subscriber.paused = true;
  append(failing.entry, 'x'.repeat(1_000));
  store.finish(failing.entry, UNAVAILABLE, 0);
  t.ok(store.bytes > 1_000);
  slow.subscriber.read();
  t.strictSame([slow.subscriber.received.length, slow.reader.end], [1_000, UNAVAILABLE]);
  store.leave(slow.reader, 'cancelled', 0);
  t.equal(store.bytes, 0);

  // Cut off at the end for want of room: none of its bytes remain.
  const full = storeWith({ maxBytes: 20_000, maxAnswerBytes: 8_000 });
  const large = full.begin('b');
  const cut = full.begin('b');
  cut.subscriber.paused = true;
  full.append(large.entry, 'x'.repeat(7_000));
  cut.reader.next();
  full.append(large.entry, 'x'.repeat(2_000));
  for (let i = 0; i < 30; i++) full.begin(`other-${i}`);
  t.notOk(cut.reader.lost);
  full.store.finish(large.entry, UNAVAILABLE, 0);
  t.ok(cut.reader.lost);
  full.store.leave(cut.reader, 'cancelled', 0);
  t.ok(full.store.bytes < 30 * 700, `${full.store.bytes} bytes for thirty that run`);
});

t.test('a cancelled caller ends its task, and a lost connection waits for the retry', async (t) => {
  const { store, begin, append } = storeWith();
  const cancelled = begin('a');
  t.equal(store.runnersCallerLeft(cancelled.entry, 'cancelled', 0), 'abort');
  t.equal(begin('a').decision, 'run');

  const shared = begin('b');
  const joined = begin('b');
  t.equal(store.runnersCallerLeft(shared.entry, 'cancelled', 0), 'go_on', 'another one waits');
  append(shared.entry, 'for another');
  t.equal(joined.subscriber.received, 'for another');
  t.equal(store.leave(joined.reader, 'cancelled', 0), 'abort', 'that was the last');
  t.equal(store.leave(joined.reader, 'cancelled', 0), 'go_on', 'said once');

  const lost = begin('c', 100);
  append(lost.entry, 'half');
  t.equal(store.runnersCallerLeft(lost.entry, 'connection_lost', 100), 'linger');
  t.equal(store.nextAtMs(100), 5_100);
  t.strictSame(store.tick(5_099), []);
  const back = begin('c', 5_099);
  t.equal(back.decision, 'join', 'the retry');
  t.strictSame(store.tick(50_000), []);
  append(lost.entry, ' and half');
  store.finish(lost.entry, OK, 50_000);
  t.equal(back.subscriber.received, 'half and half');

  const gone = begin('d', 0);
  store.runnersCallerLeft(gone.entry, 'connection_lost', 0);
  t.strictSame(
    store.tick(5_000).map(({ runner }) => runner),
    ['runner of d'],
  );
  t.equal(begin('d', 5_000).decision, 'run');
  const ended = begin('e', 0);
  store.runnersCallerLeft(ended.entry, 'connection_lost', 0);
  store.finish(ended.entry, OK, 1_000);
  t.strictSame(store.tick(6_000), []);
  t.equal(begin('e', 6_000).decision, 'replay', 'it was over before the moment was');

  const crowded = storeWith({ maxEntries: 2 });
  crowded.begin('waited for');
  crowded.store.runnersCallerLeft(crowded.begin('orphan').entry, 'connection_lost', 0);
  t.match(crowded.begin('new', 1), { decision: 'run', abandoned: { runner: 'runner of orphan' } });
  t.match(crowded.begin('another', 1), { decision: 'refuse', reason: 'full' }, 'those have callers');
  t.strictSame(crowded.store.tick(10_000), [], 'said once');

  const unjoinable = storeWith({ maxAnswerBytes: 1_024 });
  const grown = unjoinable.begin('g');
  unjoinable.append(grown.entry, 'x'.repeat(5_000));
  const left = unjoinable.store.runnersCallerLeft(grown.entry, 'connection_lost', 0);
  t.equal(left, 'abort', 'a retry could not have it');

  const behind = storeWith({ maxAnswerBytes: 1_024 });
  const run = behind.begin('f');
  const laggard = behind.begin('f');
  laggard.subscriber.paused = true;
  behind.store.runnersCallerLeft(run.entry, 'cancelled', 0);
  behind.append(run.entry, 'x'.repeat(5_000));
  t.ok(laggard.reader.lost);
  t.equal(behind.store.tick(0).length, 1, 'nobody is left to want it');
});

t.test('requests are the same task with equal bytes, method and caller', async (t) => {
  const entry = (name: string, value: string): Buffer =>
    bytesField(5, Buffer.concat([stringField(1, name), stringField(2, value)]));
  const request = (...parts: Buffer[]): Buffer =>
    Buffer.concat([stringField(1, 'id'), stringField(4, 'a question'), ...parts, varintField(6, 100)]);
  const scope = taskScope('/agent.AgentService/ProcessTask', 'spiffe://one', 'Bearer x');
  const of = (message: Buffer, inScope = scope): string =>
    taskFingerprint(inScope, message, 0, message.length).text;
  const long = entry('long', 'x'.repeat(300));
  const base = of(request(entry('a', '1'), entry('b', '2'), long));
  t.equal(of(request(long, entry('b', '2'), entry('a', '1'))), base, 'a map in any order');
  const shifted = Buffer.concat([Buffer.alloc(5), request(entry('a', '1'), entry('b', '2'), long)]);
  t.equal(taskFingerprint(scope, shifted, 5, shifted.length).text, base);
  const others = [
    of(request(entry('a', '1'), entry('b', '2'))),
    of(request(entry('a', '2'), entry('b', '1'), long)),
    of(request(entry('a', '1'))),
    of(request(entry('a', '2'))),
    of(request()),
    of(Buffer.concat([request(entry('a', '1'), entry('b', '2'), long), varintField(6, 7)])),
    of(Buffer.from([0x2a, 0x05])),
    of(Buffer.alloc(0)),
    of(request(), taskScope('/agent.AgentService/StreamProcess', 'spiffe://one', 'Bearer x')),
    of(request(), taskScope('/agent.AgentService/ProcessTask', 'spiffe://two', 'Bearer x')),
    of(request(), taskScope('/agent.AgentService/ProcessTask', 'spiffe://one', 'Bearer y')),
    of(request(), taskScope('/agent.AgentService/ProcessTask', 'spiffe://oneBearer x')),
  ];
  t.equal(new Set([base, ...others]).size, others.length + 1, 'all different');
  t.notMatch(scope, /Bearer|spiffe/, 'secrets are not kept');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.uint8Array({ maxLength: 60 }), (one, other) => {
      const [a, b] = [Buffer.from(one), Buffer.from(other)];
      if (of(a) !== of(Buffer.from(a))) return false;
      return of(a) !== of(b) || a.equals(b) || a.length === b.length;
    }),
    { numRuns: 2_000 },
  );
});

t.test('short answers keep their order and numbers, and the oldest is forgotten first', async (t) => {
  const kept = new KeptAnswers();
  const logOf = (text: string): ReplayLog => {
    const log = new ReplayLog();
    log.append(Buffer.from(text), 0, text.length);
    return log;
  };
  const add = (key: string, text: string, expiresAtMs = 0): number =>
    kept.add(key, HEAD, OK, logOf(text), 10, expiresAtMs);
  const texts = Array.from({ length: 500 }, (_, i) => `${i} `.repeat(i % 400));
  const numbers = texts.map((text, i) => add(`key ${i}`, text, i));
  t.equal(kept.span, 500, 'it has grown, and nothing has moved');
  const taken = kept.take(numbers[399]!);
  t.match(taken, { head: HEAD, end: OK, expiresAtMs: 399 });
  t.equal(taken.bytes.toString(), texts[399]);
  t.equal(kept.take(numbers[0]!).bytes.length, 0);
  t.equal(kept.oldest, numbers[1], 'what was taken is not the oldest any more');
  t.strictSame([kept.find('key 0'), kept.find('key 399'), kept.find('key 500')], [-1, -1, -1]);
  t.strictSame(
    numbers.filter((number, i) => i !== 0 && i !== 399 && kept.find(`key ${i}`) !== number),
    [],
  );

  const before = kept.bytes;
  t.equal(kept.dropOldest(), true);
  t.ok(kept.bytes < before);
  t.strictSame(
    [kept.dropped(numbers[1]!), kept.dropped(numbers[2]!), kept.oldestDropped],
    [true, false, true],
  );
  t.equal(kept.find('key 1'), numbers[1], 'it is still known that it was given');
  while (kept.dropOldest());
  t.ok(kept.dropped(numbers[499]!));
  const late = add('late', 'here');
  t.strictSame([kept.dropped(late), kept.take(late).bytes.toString()], [false, 'here']);
  while (!kept.empty) kept.forget(kept.oldest);
  t.strictSame([kept.bytes, kept.span, kept.size, kept.find('late')], [0, 0, 0, -1]);
});

t.test('keys with equal hashes are found, in any order of additions and removals', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat({ max: 40 }), fc.constantFrom('put', 'forget', 'find')), { maxLength: 400 }),
      (steps) => {
        const kept = new KeptAnswers();
        const numbers = new Map<string, number>();
        for (const [key, what] of steps) {
          const name = `${key}`.repeat(1 + (key % 3));
          const known = numbers.get(name);
          if (kept.find(name) !== (known ?? -1))
            throw new Error(`${name} is at ${kept.find(name)}, not at ${known}`);
          if (what === 'put' && known === undefined) {
            numbers.set(name, kept.add(name, HEAD, OK, new ReplayLog(), 0, 0));
          } else if (what === 'forget' && known !== undefined) {
            kept.forget(known);
            numbers.delete(name);
          }
          if (kept.size !== numbers.size) throw new Error(`${kept.size} of ${numbers.size}`);
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});

t.test('equal fingerprints have equal hashes, and others spread over the buckets', async (t) => {
  const scopes = ['one', 'other'].map((caller) => taskScope('/agent.AgentService/ProcessTask', caller));
  const task = fc.tuple(fc.constantFrom(...scopes), fc.uint8Array({ maxLength: 9 }), fc.nat(7));
  fc.assert(
    fc.property(fc.array(task, { maxLength: 100 }), (tasks) => {
      const hashes = new Map<string, number>();
      return tasks.every(([scope, bytes, offset]) => {
        const buffer = Buffer.concat([Buffer.alloc(offset, 0xff), bytes, Buffer.alloc(9, 0xff)]);
        const { text, hash } = taskFingerprint(scope, buffer, offset, offset + bytes.length);
        const known = hashes.get(text) ?? hash;
        hashes.set(text, known);
        return known === hash;
      });
    }),
  );
  for (const change of [
    (i: number) => stringField(1, `task-${i}`),
    (i: number) => Buffer.concat([stringField(1, 'task'), varintField(6, i), Buffer.from([0x20, 1])]),
    (i: number) =>
      stringField(4, `${String.fromCharCode(97 + (i % 26), 97 + (i >> 5))}${'x'.repeat(100)}${i}`),
  ]) {
    const buckets = new Map<number, number>();
    for (let i = 0; i < 10_000; i++) {
      const message = change(i);
      const at = taskFingerprint(scopes[i % 2]!, message, 0, message.length).hash & 16_383;
      buckets.set(at, (buckets.get(at) ?? 0) + 1);
    }
    const longest = Math.max(...buckets.values());
    t.ok(buckets.size > 6_500 && longest < 14, `${buckets.size} buckets, ${longest} in one`);
  }
});

t.test('a short request never equals the digest of a long one', async (t) => {
  const long = Buffer.alloc(1_000, 'x');
  const scope = taskScope('/m', 'a');
  const digest = taskFingerprint(scope, long, 0, long.length).text.slice(scope.length);
  for (const encoding of ['latin1', 'utf8', 'utf16le'] as const) {
    const same = Buffer.from(digest, encoding);
    t.not(taskFingerprint(scope, same, 0, same.length).text, scope + digest);
  }
});

t.test('a full store takes new answers without new memory outside the heap', async (t) => {
  const { store, begin, append } = storeWith({ maxEntries: 1_000 });
  const run = (from: number, to: number): void => {
    for (let i = from; i < to; i++) {
      const { entry } = begin(`task-${i}`, i, 'f'.repeat(100));
      append(entry, 'answer '.repeat(20));
      store.finish(entry, OK, i);
    }
  };
  run(0, 3_000);
  const { allocUnsafeSlow } = Buffer;
  t.teardown(() => Object.assign(Buffer, { allocUnsafeSlow }));
  let allocated = 0;
  Buffer.allocUnsafeSlow = (size) => {
    allocated += size;
    return allocUnsafeSlow(size);
  };
  run(3_000, 10_000);
  t.equal(allocated, 0);
});

t.test('the log returns the appended bytes, and frees the dropped ones', async (t) => {
  const random = seededRandom(4);
  const log = new ReplayLog();
  const all: Buffer[] = [];
  for (let i = 0; i < 500; i++) {
    const bytes = Buffer.alloc(Math.floor(random() ** 4 * 200_000), i & 255);
    all.push(bytes);
    log.append(bytes, 0, bytes.length);
  }
  const expected = Buffer.concat(all);
  t.equal(log.length, expected.length);
  const got: Buffer[] = [];
  for (let at = 0, bytes = log.read(0); bytes !== undefined; bytes = log.read(at)) {
    got.push(bytes);
    at += bytes.length;
  }
  t.ok(Buffer.concat(got).equals(expected));
  t.ok(log.heldBytes < expected.length * 1.1 + 65_536, `${log.heldBytes} held for ${expected.length}`);
  for (let i = 0; i < 200; i++) {
    const at = Math.floor(random() * expected.length);
    const bytes = log.read(at)!;
    if (!bytes.equals(expected.subarray(at, at + bytes.length))) t.fail(`at ${at}`);
  }
  const middle = expected.length >> 1;
  log.dropBefore(middle);
  t.ok(log.start <= middle && log.start > middle - 65_536);
  t.equal(log.read(log.start - 1), undefined);
  t.equal(log.read(log.length), undefined);
  t.equal(log.read(middle)![0], expected[middle]);
});

t.test(
  'in any sequence of events one call runs a task, readers get whole answers, and the bounds hold',
  async (t) => {
    const step = fc.record({
      what: fc.constantFrom(
        'begin',
        'begin',
        'append',
        'append',
        'ok',
        'fail',
        'leave',
        'lost',
        'tick',
        'read',
      ),
      task: fc.nat(5),
      bytes: fc.nat(6_000),
      afterMs: fc.nat(3_000),
    });
    const settings = {
      maxBytes: 20_000,
      maxAnswerBytes: 8_000,
      maxEntries: 6,
      maxAgeMs: 20_000,
      lingerMs: 1_000,
    };
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const { store, begin, append } = storeWith(settings);
        const running = new Map<string, { entry: TaskEntry<string>; sent: string; callerHere: boolean }>();
        const readers: { reader: TaskReader<string>; subscriber: Subscriber; of: { sent: string } }[] = [];
        let kept = new Map<string, { sent: string }>();
        let nowMs = 0;
        const gone = (entry: TaskEntry<string>): void => {
          for (const [id, run] of running) if (run.entry === entry) running.delete(id);
        };
        for (const [i, { what, task, bytes, afterMs }] of steps.entries()) {
          nowMs += afterMs;
          const id = `task-${task}`;
          const run = running.get(id);
          if (what === 'begin') {
            const begun = begin(id, nowMs);
            if (begun.decision === 'run') {
              if (run !== undefined) throw new Error('it runs already');
              if (begun.abandoned !== undefined) gone(begun.abandoned);
              running.set(id, { entry: begun.entry, sent: '', callerHere: true });
            } else if (begun.decision !== 'refuse') {
              begun.subscriber.paused = bytes % 3 === 0;
              const of = begun.decision === 'join' ? run : kept.get(id);
              if (of === undefined) throw new Error(`${begun.decision}, but nothing is known`);
              readers.push({ reader: begun.reader, subscriber: begun.subscriber, of });
            }
          } else if (what === 'append' && run !== undefined) {
            const text = String.fromCharCode(97 + (i % 26)).repeat(bytes);
            run.sent += text;
            append(run.entry, text);
          } else if ((what === 'ok' || what === 'fail') && run !== undefined) {
            running.delete(id);
            store.finish(run.entry, what === 'ok' ? OK : UNAVAILABLE, nowMs);
            if (what === 'ok') kept.set(id, run);
          } else if (what === 'leave' || what === 'lost') {
            const leaving = what === 'leave' ? 'cancelled' : 'connection_lost';
            if (run?.callerHere && bytes % 2 === 0) {
              run.callerHere = false;
              if (store.runnersCallerLeft(run.entry, leaving, nowMs) === 'abort') gone(run.entry);
            } else if (readers.length > 0) {
              const [left] = readers.splice(bytes % readers.length, 1);
              if (store.leave(left!.reader, leaving, nowMs) === 'abort') gone(left!.reader.entry);
            }
          } else if (what === 'tick') {
            for (const entry of store.tick(nowMs)) gone(entry);
          } else if (what === 'read') {
            for (const { subscriber } of readers) subscriber.read();
          }
          for (const { reader, subscriber, of } of readers) {
            if (!of.sent.startsWith(subscriber.received)) throw new Error('not what was sent');
            if (reader.end !== undefined && subscriber.received !== of.sent) throw new Error('not all of it');
          }
          const room = settings.maxBytes + 6_000 + settings.maxEntries * 700;
          if (store.bytes > room) throw new Error(`${store.bytes} bytes`);
          if (store.size > settings.maxEntries) throw new Error(`${store.size} entries`);
        }
        for (const { reader } of readers) store.leave(reader, 'cancelled', nowMs);
        for (const [, { entry }] of running) store.finish(entry, OK, nowMs);
        kept = new Map();
        store.tick(nowMs + 1_000_000);
        if (store.size !== 0 || store.bytes !== 0)
          throw new Error(`${store.size} entries, ${store.bytes} bytes are left`);
      }),
      { numRuns: 500 },
    );
    t.pass();
  },
);

t.test('a task takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    TASK_ARROWS,
    `running → orphaned, finished, unreplayable, forgotten
     orphaned → running, finished, unreplayable, forgotten
     finished → unreplayable, forgotten
     unreplayable → forgotten
     forgotten`,
  );
});
