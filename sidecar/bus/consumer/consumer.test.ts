// The decisions of a consumer, by a virtual clock: when a lease is extended and given up, who runs beside whom, what a
// batch is, and what an answer makes of a task.
import { gzipSync } from 'node:zlib';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { TestClock } from '../../../scripts/harness/test-clock.ts';
import { TimerWheel } from '../../clock/timer-wheel.ts';
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import type { TaskLease } from '../log/task-log.ts';
import { afterAnswer } from './after-answer.ts';
import { ChunkBatches } from './chunk-batches.ts';
import type { InnerEnd } from './inner-call.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { MessageReader } from './message-reader.ts';
import { persist } from './persist.ts';
import { RunGate } from './run-gate.ts';
import { TakeValve } from './take-valve.ts';

/** Promises that are due have run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function clockAndWheel(): { clock: TestClock; wheel: TimerWheel } {
  const clock = new TestClock();
  const wheel = new TimerWheel();
  clock.drive(wheel);
  return { clock, wheel };
}

interface HeldLease {
  readonly ends: readonly string[];
  readonly sentAtMs: readonly number[];
  readonly clock: TestClock;
  readonly keeper: LeaseKeeper;
  extended: () => Promise<void>;
  cancel(reason: unknown): void;
}

function hold(heldForMs = 0): HeldLease {
  const { clock, wheel } = clockAndWheel();
  const ends: string[] = [];
  const sentAtMs: number[] = [];
  const cancel = new AbortController();
  const startMs = clock.nowMs;
  const held = {
    ends,
    sentAtMs,
    clock,
    extended: () => Promise.resolve(),
    cancel: (reason: unknown) => cancel.abort(reason),
  };
  const lease: Pick<TaskLease, 'extend' | 'cancelled'> = {
    cancelled: cancel.signal,
    extend() {
      sentAtMs.push(clock.nowMs - startMs);
      return held.extended();
    },
  };
  const keeper = new LeaseKeeper(lease, {
    leaseMs: 15_000,
    heldForMs,
    wheel,
    clock: clock.now,
    onEnd: (end) => ends.push(`${end} ${clock.nowMs - startMs}`),
  });
  keeper.start();
  return Object.assign(held, { keeper });
}

/** Advances in small steps, so that what a step causes comes before the next. */
async function pass(clock: TestClock, ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 10) {
    clock.advance(10);
    await settled();
  }
}

t.test('a lease is extended each third of it, for as long as the log answers', async (t) => {
  const held = hold();
  await pass(held.clock, 16_000);
  t.same(
    held.sentAtMs.map((ms) => Math.round(ms / 100)),
    [50, 100, 150],
  );
  t.same(held.ends, []);
});

t.test(
  'the agent is cancelled a fifth of the lease before it ends, from when the last success was sent',
  async (t) => {
    const away = hold();
    await pass(away.clock, 5_100);
    away.extended = () => Promise.reject(new LogUnavailableError('away', false));
    await pass(away.clock, 20_000);
    t.match(away.ends, [/^late 170\d\d$/], 'sent at 5 s, and 12 s more');
    t.ok(away.sentAtMs.length > 10, 'it was tried again and again');

    const silent = hold();
    silent.extended = () => new Promise(() => {});
    await pass(silent.clock, 20_000);
    t.match(silent.ends, [/^late 120\d\d$/], 'an extension without an answer does not count');

    const slow = hold();
    let answer = (): void => {};
    slow.extended = () =>
      new Promise((resolve) => {
        answer = resolve;
      });
    await pass(slow.clock, 11_000);
    answer();
    slow.extended = () => new Promise(() => {});
    await pass(slow.clock, 20_000);
    t.match(slow.ends, [/^late 170\d\d$/], 'sent at 5 s, however late the answer came');

    const stale = hold(9_000);
    stale.extended = () => new Promise(() => {});
    await pass(stale.clock, 10_000);
    t.match(stale.ends, [/^late 30\d\d$/], 'what passed before the lease arrived counts');
  },
);

t.test(
  'a run whose lease is lost or cancelled ends at once, and a process that slept notices it first',
  async (t) => {
    const fenced = hold();
    fenced.extended = () => Promise.reject(new FencedError('key', 1, 'lost'));
    await pass(fenced.clock, 6_000);
    t.match(fenced.ends, [/^lost 50\d\d$/]);
    const cancelled = hold();
    cancelled.cancel(new FencedError('key', 1, 'cancelled'));
    t.same(cancelled.ends, ['cancelled 0']);
    const asleep = hold();
    asleep.clock.advance(60_000);
    t.match(asleep.ends, [/^late/]);
    t.same(asleep.sentAtMs, [], 'it asks for no more time');
    const over = hold();
    over.keeper.stop();
    over.cancel(new FencedError('key', 1, 'cancelled'));
    over.clock.advance(60_000);
    t.same(over.ends, []);
  },
);

t.test('a task that runs alone waits for the others, and keeps further ones away', async (t) => {
  const changes: boolean[] = [];
  const gate = new RunGate((isShared) => changes.push(isShared));
  t.ok(await gate.enter(false));
  t.ok(await gate.enter(false));
  let isIn = false;
  const alone = gate.enter(true).then((may) => {
    isIn = may;
  });
  await settled();
  t.same([isIn, changes], [false, [false]]);
  t.notOk(await gate.enter(false), 'it goes back');
  t.notOk(await gate.enter(true), 'so does a second one of its kind');
  gate.leave(false);
  await settled();
  t.notOk(isIn);
  gate.leave(false);
  await alone;
  t.ok(isIn);
  gate.leave(true);
  t.same(changes, [false, true]);
  t.ok(await gate.enter(false));
});

t.test('tasks are taken while nothing speaks against it', async (t) => {
  const valve = new TakeValve();
  const first = valve.signal;
  valve.close('app');
  valve.close('pause');
  t.ok(first.aborted);
  let opened = false;
  const wait = valve.whenChanged().then(() => {
    opened = true;
  });
  valve.open('app');
  await settled();
  t.notOk(opened);
  valve.open('pause');
  await wait;
  t.ok(valve.isOpen);
  t.notOk(valve.signal.aborted);
  valve.renew();
  t.ok(valve.isOpen);
});

t.test('chunks are written by 16 KiB or 20 ms, in order, and a slow log makes the agent wait', async (t) => {
  const { clock, wheel } = clockAndWheel();
  const written: number[] = [];
  const stored: (() => void)[] = [];
  let rooms = 0;
  const batches = new ChunkBatches({
    wheel,
    clock: clock.now,
    write: (count) => {
      written.push(count);
      return new Promise((resolve) => stored.push(resolve));
    },
    onRoom: () => rooms++,
    onFailed: () => t.fail('nothing failed'),
  });
  const next = async (): Promise<void> => {
    stored.shift()!();
    await settled();
  };
  batches.add(Buffer.alloc(100));
  t.same(written, []);
  clock.advance(40);
  t.same(written, [1], 'after 20 ms');
  for (let i = 0; i < 80; i++) batches.add(Buffer.alloc(1_000));
  t.same(written, [1], 'one write at a time');
  t.ok(batches.isFull);
  await next();
  t.same(written, [1, 17], 'as many as make 16 KiB');
  t.equal(rooms, 1);
  const finished = batches.finish();
  while (stored.length > 0) await next();
  await finished;
  t.equal(
    written.reduce((sum, count) => sum + count, 0),
    81,
  );
  const failing = new ChunkBatches({
    wheel,
    clock: clock.now,
    write: () => Promise.reject(new FencedError('key', 1, 'lost')),
    onRoom: () => {},
    onFailed: (error) => t.type(error, FencedError),
  });
  failing.add(Buffer.alloc(20_000));
  await failing.finish();
});

t.test(
  'messages are cut at their prefixes, however they arrive, and uncompressed within the limit',
  async (t) => {
    const framed = (message: Buffer, isZipped: boolean): Buffer => {
      const bytes = isZipped ? gzipSync(message) : message;
      const prefix = Buffer.alloc(5);
      prefix[0] = isZipped ? 1 : 0;
      prefix.writeUInt32BE(bytes.length, 1);
      return Buffer.concat([prefix, bytes]);
    };
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.uint8Array({ maxLength: 300 }), fc.boolean()), { maxLength: 20 }),
        fc.integer({ min: 1, max: 200 }),
        (messages, size) => {
          const all = Buffer.concat(
            messages.map(([bytes, isZipped]) => framed(Buffer.from(bytes), isZipped)),
          );
          const read: Buffer[] = [];
          const reader = new MessageReader(100_000, (message) => read.push(Buffer.from(message)));
          reader.encoding = 'gzip';
          for (let at = 0; at < all.length; at += size)
            if (reader.read(all.subarray(at, at + size)) !== undefined) return false;
          const wanted = Buffer.concat(messages.map(([bytes]) => framed(Buffer.from(bytes), false)));
          return reader.atBoundary && Buffer.concat(read).equals(wanted);
        },
      ),
    );
    const readOf = (bytes: Buffer, encoding: string): string | undefined => {
      const reader = new MessageReader(10_000, () => {});
      reader.encoding = encoding;
      return reader.read(bytes);
    };
    t.equal(
      readOf(framed(Buffer.alloc(100_000), true), 'gzip'),
      'too_large',
      'it does not inflate more than it may',
    );
    t.equal(
      readOf(framed(Buffer.alloc(20_000), false).subarray(0, 10), 'gzip'),
      'too_large',
      'nor wait for it',
    );
    t.equal(readOf(framed(Buffer.alloc(100), true), 'identity'), 'unreadable');
    t.equal(readOf(Buffer.from([1, 0, 0, 0, 3, 1, 2, 3]), 'gzip'), 'unreadable');
  },
);

t.test('an answer is a result, unless the agent has seen nothing or is gone', async (t) => {
  const answer = (reason: string, status = 14): InnerEnd => ({
    kind: 'answered',
    status,
    statusMessage: '',
    reason,
    head: [],
    trailers: [],
  });
  for (const [end, running, draining] of [
    [answer('', 0), 'settle', 'settle'],
    [answer(''), 'settle', 'settle'],
    [answer('deadline', 4), 'settle', 'settle'],
    [answer('idle', 4), 'settle', 'settle'],
    [answer('upstream_reset', 13), 'settle', 'settle'],
    [answer('message_too_large', 8), 'settle', 'settle'],
    [answer('call_cycle', 9), 'settle', 'settle'],
    [answer('of a newer version'), 'settle', 'settle'],
    [answer('connect_failed'), 'give_back', 'give_back'],
    [answer('no_endpoint'), 'give_back', 'give_back'],
    [answer('draining'), 'give_back', 'give_back'],
    [answer('overloaded', 8), 'give_back', 'give_back'],
    [answer('rate_limited', 8), 'give_back', 'give_back'],
    [answer('stream_cut'), 'lose', 'give_back'],
    [answer('task_not_repeatable', 9), 'run_anew', 'run_anew'],
    [{ kind: 'broken', because: '' }, 'lose', 'give_back'],
    [{ kind: 'not_sent', because: '' }, 'give_back', 'give_back'],
  ] as const) {
    const name = end.kind === 'answered' ? end.reason : end.kind;
    t.equal(afterAnswer(end, false), running, name);
    t.equal(afterAnswer(end, true), draining, `${name}, in a drain`);
  }
});

t.test(
  'a step is tried again while the log is away, and given up when the run no longer counts',
  async (t) => {
    let tries = 0;
    const away = async (): Promise<void> => {
      if (++tries < 3) throw new LogUnavailableError('away', true);
    };
    await persist(
      away,
      () => true,
      () => 0,
    );
    t.equal(tries, 3);
    tries = 0;
    await t.rejects(
      persist(
        away,
        () => false,
        () => 0,
      ),
      LogUnavailableError,
    );
    await t.rejects(
      persist(
        () => Promise.reject(new FencedError('key', 1, 'lost')),
        () => true,
        () => 0,
      ),
      FencedError,
    );
  },
);
