/** Tests the queue of admission: order, fairness among callers, rejections and their reasons. */

import t from 'tap';
import { EventQueue } from '../../scripts/harness/event-queue.ts';
import fc from '../../scripts/harness/properties.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import {
  AdmissionQueue,
  CallerCalls,
  type Entry,
  type Queueable,
  type QueueLimits,
} from './admission-queue.ts';

interface TestCall extends Queueable {
  readonly id: number;
}

/** A call with a caller of its own, unless the test gives one. */
function callWith(id: number, deadlineMs = 0, callerCalls = new CallerCalls()): TestCall {
  return {
    id,
    deadlineMs,
    callerCalls,
    queueOlder: undefined,
    queueNewer: undefined,
    queuedAtMs: Number.NaN,
    queueTurn: 0,
  };
}

/** A queue that remembers the admitted calls and ends the one that was admitted first. */
class TestQueue extends AdmissionQueue<TestCall> {
  readonly inside: TestCall[] = [];

  override enter(call: TestCall, nowMs: number): Entry {
    const entry = super.enter(call, nowMs);
    if (entry === 'admitted') this.inside.push(call);
    return entry;
  }

  override next(nowMs: number): TestCall | undefined {
    const call = super.next(nowMs);
    if (call !== undefined) this.inside.push(call);
    return call;
  }

  leaveFirst(serviceMs: number): void {
    this.leave(this.inside.shift()!, serviceMs);
  }
}

const SETTINGS: QueueLimits = { limit: 2, maxCalls: 3, maxWaitMs: 5_000 };

/** A queue that has learned that calls take a second, with `limit` calls running. */
function busy(settings: Partial<QueueLimits> = {}): TestQueue {
  const queue = new TestQueue({ ...SETTINGS, ...settings });
  for (let i = 0; i < queue.settings.limit; i++) {
    queue.enter(callWith(-1), 0);
    queue.leaveFirst(1_000);
  }
  for (let i = 0; i < queue.settings.limit; i++) queue.enter(callWith(-1), 0);
  return queue;
}

t.test('the queue admits and queues calls in order, and refuses the rest with a pushback', async (t) => {
  const queue = new TestQueue(SETTINGS);
  const calls = [0, 1, 2, 3, 4, 5].map((id) => callWith(id));
  t.strictSame(
    calls.map((call) => queue.enter(call, 0)),
    ['admitted', 'admitted', 'queued', 'queued', 'queued', 'no_room'],
  );
  t.equal(queue.next(0), undefined);
  t.strictSame([queue.pushbackMs(0), queue.pushbackMs(0.5)], [1_000, 1_500], 'nothing is known yet');
  queue.leaveFirst(400);
  t.equal(queue.next(10)?.id, 2);
  t.equal(queue.next(10), undefined);
  t.ok(queue.cancel(calls[3]!, 15));
  t.notOk(queue.cancel(calls[3]!, 15), 'it waits no more');
  queue.leaveFirst(400);
  t.equal(queue.next(20)?.id, 4);
  t.strictSame([queue.active, queue.queued], [2, 0]);
  t.strictSame([queue.estimatedWaitMs, queue.pushbackMs(0)], [200, 200]);

  const fair = busy();
  const first = callWith(1);
  fair.enter(first, 0);
  fair.leaveFirst(1_000);
  t.equal(fair.enter(callWith(2), 0), 'queued', 'a slot is free, but another was first');
  t.equal(fair.next(0), first);

  t.throws(() => {
    queue.enter(calls[3]!, 30);
    queue.enter(calls[3]!, 30);
  }, /enter it once/);
  queue.leaveFirst(1);
  queue.leaveFirst(1);
  t.throws(() => queue.leave(calls[0]!, 1), /leave once/);
  t.throws(() => new AdmissionQueue({ ...SETTINGS, maxCalls: Number.NaN }), /maxCalls is NaN/);
});

t.test('the queue refuses a call that would be late, and drops one that has become late', async (t) => {
  const queue = busy();
  t.equal(queue.estimatedWaitMs, 500);
  t.equal(queue.enter(callWith(1, 1_499), 0), 'no_time', 'half a second to wait, a second to run');
  const just = callWith(2, 1_500);
  const next = callWith(3, 9_000);
  t.strictSame([queue.enter(just, 0), queue.enter(next, 0)], ['queued', 'queued']);
  t.equal(queue.expired(499), undefined);
  queue.leaveFirst(1_000);
  t.equal(queue.next(600), undefined, 'it would be late');
  t.equal(queue.expired(600), just);
  t.equal(queue.expired(600), undefined);
  t.equal(queue.next(600), next);

  const alone = callWith(4, 2_200);
  t.equal(queue.enter(alone, 600), 'queued');
  t.equal(queue.expired(2_199), undefined, 'nobody else wants the slot: it may try');
  t.equal(queue.expired(2_200), alone, 'but not when its time is over');

  const patient = busy({ maxWaitMs: 5_000 });
  const first = callWith(5);
  t.equal(patient.overdueAtMs, Number.POSITIVE_INFINITY);
  t.strictSame([patient.enter(first, 100), patient.enter(callWith(6), 200)], ['queued', 'queued']);
  t.equal(patient.overdueAtMs, 5_100);
  t.equal(patient.overdue(5_099), undefined);
  t.equal(patient.overdue(5_100), first, 'no place became free for it, and it has no deadline');
  t.equal(patient.overdueAtMs, 5_200);

  const long = busy({ maxCalls: 100, maxWaitMs: 2_000 });
  const entries = Array.from({ length: 5 }, (_, i) => long.enter(callWith(i), 0));
  t.strictSame(entries, ['queued', 'queued', 'queued', 'queued', 'too_long']);
});

t.test('a queue that does not empty gets shorter', async (t) => {
  const queue = busy({ limit: 8, maxCalls: 100 });
  for (let i = 0; i < 8; i++) t.equal(queue.enter(callWith(i), 0), 'queued');
  t.equal(queue.enter(callWith(8), 1_999), 'queued', 'a burst');
  t.equal(queue.enter(callWith(9), 2_001), 'no_room', 'standing for two service times');
  for (let i = 0; i < 7; i++) {
    queue.leaveFirst(1_000);
    queue.next(2_500);
  }
  t.equal(queue.queued, 2);
  t.equal(queue.enter(callWith(10), 2_500), 'no_room', 'a quarter of the limit');
  queue.leaveFirst(1_000);
  queue.next(2_500);
  t.equal(queue.enter(callWith(11), 2_500), 'queued');
  for (let i = 0; i < 2; i++) {
    queue.leaveFirst(1_000);
    queue.next(2_600);
  }
  t.equal(queue.queued, 0);
  const entries = (nowMs: number) => Array.from({ length: 8 }, (_, i) => queue.enter(callWith(i), nowMs));
  t.equal(entries(3_500).filter((entry) => entry === 'queued').length, 2, 'empty for a moment only');
  for (let i = 0; i < 2; i++) {
    queue.leaveFirst(1_000);
    queue.next(3_600);
  }
  t.strictSame(entries(4_700), Array(8).fill('queued'), 'empty for more than a call’s time');
});

t.test('limits change while calls run and wait', async (t) => {
  const queue = busy();
  for (let i = 0; i < 3; i++) queue.enter(callWith(i), 0);
  queue.settings = { ...SETTINGS, limit: 4 };
  t.strictSame([queue.next(1)?.id, queue.next(1)?.id, queue.next(1)], [0, 1, undefined]);
  queue.settings = { ...SETTINGS, limit: 1, maxCalls: 0 };
  t.equal(queue.enter(callWith(9), 1), 'no_room');
  for (let i = 0; i < 3; i++) {
    queue.leaveFirst(1_000);
    t.equal(queue.next(1), undefined, 'the lower limit');
  }
  queue.leaveFirst(1_000);
  t.equal(queue.next(1)?.id, 2, 'who waits is not turned out');
});

t.test('the queue keeps its bounds and its order in any sequence of events', async (t) => {
  const step = fc.record({
    what: fc.constantFrom('enter', 'enter', 'enter', 'leave', 'cancel', 'limit'),
    timeLeftMs: fc.option(fc.nat(5_000), { nil: undefined }),
    which: fc.nat(50),
    afterMs: fc.nat(400),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const queue = new TestQueue(SETTINGS);
      let waiting: TestCall[] = [];
      let active = 0;
      let nowMs = 0;
      let mostAllowed = SETTINGS.limit;
      for (const [id, { what, timeLeftMs, which, afterMs }] of steps.entries()) {
        nowMs += afterMs;
        if (what === 'enter') {
          const call = callWith(id, timeLeftMs === undefined ? 0 : nowMs + timeLeftMs);
          const entry = queue.enter(call, nowMs);
          if (entry === 'queued') waiting.push(call);
          if (entry === 'admitted') active++;
        } else if (what === 'leave' && active > 0) {
          queue.leaveFirst(which * 20);
          active--;
        } else if (what === 'cancel' && waiting.length > 0) {
          const [call] = waiting.splice(which % waiting.length, 1);
          if (!queue.cancel(call!, nowMs)) throw new Error('it waited');
        } else if (what === 'limit') {
          queue.settings = { ...SETTINGS, limit: which % 5, maxCalls: which % 7 };
          mostAllowed = Math.max(active, which % 5);
        }
        for (let call = queue.expired(nowMs); call !== undefined; call = queue.expired(nowMs)) {
          if (call !== waiting.shift()) throw new Error('not the oldest');
          if (call.deadlineMs === 0) throw new Error('it has no deadline');
        }
        for (let call = queue.next(nowMs); call !== undefined; call = queue.next(nowMs)) {
          if (call !== waiting.shift()) throw new Error('not the oldest');
          if (call.deadlineMs > 0 && call.deadlineMs <= nowMs) throw new Error('its deadline is over');
          active++;
          for (let late = queue.expired(nowMs); late !== undefined; late = queue.expired(nowMs))
            waiting = waiting.filter((other) => other !== late);
        }
        if (queue.active !== active || queue.queued !== waiting.length)
          throw new Error(`${queue.active} in and ${queue.queued} wait, not ${active} and ${waiting.length}`);
        if (active > mostAllowed) throw new Error(`${active} are in, of ${mostAllowed}`);
        if (waiting.length > 7) throw new Error(`${waiting.length} wait`);
        const pushback = queue.pushbackMs(0.999);
        if (!(pushback >= 50 && pushback <= 30_000)) throw new Error(`pushback ${pushback}`);
        if (waiting.some(({ queuedAtMs }) => Number.isNaN(queuedAtMs))) throw new Error('it waits');
      }
    }),
    { numRuns: 300 },
  );
  t.pass();
});

interface Load {
  readonly times: number;
  readonly deadlineMs: number;
  readonly settings: QueueLimits;
  /** Refused callers try again after their pushback, twice. */
  readonly again: boolean;
  /** The spread of log-normal service times; 0 makes all equal. */
  readonly sigma: number;
}

/** Simulates an agent of ten slots and calls of one second, for ten minutes. */
function simulate({ times, deadlineMs, settings, again, sigma }: Load) {
  const random = seededRandom(3);
  const events = new EventQueue();
  const queue = new AdmissionQueue<TestCall & { startMs: number }>(settings);
  let nowMs = 0;
  let good = 0;
  let late = 0;
  let refused = 0;
  const latencies: number[] = [];
  const endMs = 600_000;
  const serviceMs = (): number => {
    if (sigma === 0) return 1_000;
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return 1_000 * Math.exp(sigma * normal - (sigma * sigma) / 2);
  };
  const run = (call: TestCall & { startMs: number }): void => {
    // The agent stops at the deadline, as a cancelled call does.
    const timeMs = Math.min(serviceMs(), Math.max(call.deadlineMs - nowMs, 0));
    const inTime = nowMs + timeMs < call.deadlineMs;
    events.at(nowMs + timeMs, () => {
      if (inTime) {
        good++;
        latencies.push(nowMs - call.startMs);
      } else late++;
      queue.leave(call, timeMs);
      pump();
    });
  };
  const pump = (): void => {
    for (;;) {
      while (queue.expired(nowMs) !== undefined) late++;
      const call = queue.next(nowMs);
      if (call === undefined) return;
      run(call);
    }
  };
  const arrive = (triesLeft: number, deadlineAtMs: number): void => {
    const call = { ...callWith(0, deadlineAtMs), startMs: nowMs };
    const entry = queue.enter(call, nowMs);
    if (entry === 'admitted') run(call);
    else if (entry !== 'queued') {
      const waitMs = queue.pushbackMs(random());
      if (triesLeft > 0 && nowMs + waitMs < deadlineAtMs)
        events.at(nowMs + waitMs, () => arrive(triesLeft - 1, deadlineAtMs));
      else refused++;
    }
  };
  const next = (): void => {
    events.at(nowMs + (-Math.log(1 - random()) * 1_000) / (10 * times), () => {
      next();
      arrive(again ? 2 : 0, nowMs + deadlineMs);
    });
  };
  next();
  while (events.nextAtMs <= endMs) {
    nowMs = events.nextAtMs;
    events.runNext();
  }
  latencies.sort((a, b) => a - b);
  const p = (share: number): number => Math.round(latencies[Math.floor(latencies.length * share)] ?? 0);
  return { goodput: good / (10 * 600), late, refused, p50: p(0.5), p99: p(0.99) };
}

t.test('at five times its capacity, nearly all work of the agent is of use', async (t) => {
  const settings = { limit: 10, maxCalls: 10, maxWaitMs: 5_000 };
  for (const [name, load] of Object.entries({
    'steady calls, deadline 3 s': { deadlineMs: 3_000, again: false, sigma: 0 },
    'varying calls, deadline 3 s': { deadlineMs: 3_000, again: false, sigma: 0.5 },
    'varying calls, deadline 3 s, refused ones come again': { deadlineMs: 3_000, again: true, sigma: 0.5 },
    'widely varying calls, deadline 60 s, come again': { deadlineMs: 60_000, again: true, sigma: 0.8 },
  })) {
    const { goodput, p50, p99, late, refused } = simulate({ times: 5, settings, ...load });
    const percent = (goodput * 100).toFixed(0);
    t.comment(`${name}: ${percent} % good, p50 ${p50} ms, p99 ${p99} ms, ${late} late, ${refused} refused`);
    t.ok(goodput > 0.9, `${goodput} of what it can do`);
    t.ok(p50 < 1_700, `${p50} ms; a call takes 1 s`);
  }
});

t.test('at half load the queue absorbs bursts', async (t) => {
  const settings = { limit: 10, maxCalls: 10, maxWaitMs: 5_000 };
  const half = simulate({ times: 0.5, settings, deadlineMs: 10_000, again: false, sigma: 0.5 });
  t.comment(`at half load: ${half.refused} refused, ${half.late} late`);
  t.ok(half.refused + half.late <= 3, `${half.refused + half.late} of 3,000`);
});

t.test('a caller that floods delays no other, neither before the queue nor in it', async (t) => {
  const queue = new TestQueue({ limit: 16, maxCalls: 16, maxWaitMs: 5_000 });
  const [flood, modest] = [new CallerCalls(), new CallerCalls()];
  const entries = Array.from({ length: 40 }, (_, i) => queue.enter(callWith(i, 0, flood), 0));
  const count = (entry: Entry): number => entries.filter((each) => each === entry).length;
  t.strictSame([count('admitted'), count('queued'), count('no_room')], [14, 14, 12]);
  t.equal(queue.enter(callWith(100, 0, modest), 0), 'admitted', 'past all that wait');
  t.equal(queue.enter(callWith(101, 0, modest), 0), 'admitted');
  queue.leaveFirst(1_000);
  t.equal(queue.next(1), undefined, 'the flood gives way, although a place is free');
  t.equal(queue.enter(callWith(102, 0, modest), 1), 'admitted');
  t.equal(queue.active, 16);
  const waits = callWith(103, 0, modest);
  t.equal(queue.enter(waits, 1), 'queued', 'behind 14');
  t.ok(queue.waitMs(callWith(104, 0, modest)) < queue.estimatedWaitMs, 'which it does not wait for');
  t.equal(queue.enter(callWith(105, 0, flood), 1), 'no_room');
  queue.leaveFirst(1_000);
  t.equal(queue.next(2), waits, 'its turn comes before theirs');
  t.equal(queue.next(2), undefined);
  // When the flood is alone again, it gets its places back, in the order of its calls.
  for (const call of queue.inside.filter(({ callerCalls }) => callerCalls === modest))
    queue.leave(call, 1_000);
  t.strictSame([queue.next(3)?.id, queue.next(3)?.id, queue.next(3)], [14, 15, undefined]);
});
