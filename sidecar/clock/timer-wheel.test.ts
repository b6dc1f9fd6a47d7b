// The timer wheel against a plain model, and its driver on real timers.
import { execFile } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { backoffMs } from './backoff.ts';
import { Timer, TimerWheel } from './timer-wheel.ts';
import { WheelDriver } from './wheel-driver.ts';

class TestTimer extends Timer {
  readonly name: string;
  private readonly onDue: (timer: TestTimer, nowMs: number) => void;

  constructor(name: string, then: (timer: TestTimer, nowMs: number) => void = () => {}) {
    super();
    this.name = name;
    this.onDue = then;
  }

  override onTimeout(nowMs: number): void {
    this.onDue(this, nowMs);
  }
}

/** A plain model of the wheel: a timer fires at the first tick that is not before its time. */
class Model {
  private readonly due = new Map<TestTimer, number>();
  private tick = 0;

  arm(timer: TestTimer, atMs: number): void {
    this.due.set(timer, Math.max(Math.ceil(atMs / 10), this.tick + 1));
  }

  cancel(timer: TestTimer): void {
    this.due.delete(timer);
  }

  advance(nowMs: number): string[] {
    const target = Math.floor(nowMs / 10);
    if (target <= this.tick) return [];
    this.tick = target;
    const fired = [...this.due].filter(([, tick]) => tick <= target);
    for (const [timer] of fired) this.due.delete(timer);
    return fired.map(([timer]) => timer.name).sort();
  }

  get size(): number {
    return this.due.size;
  }

  get firstMs(): number | undefined {
    return this.due.size === 0 ? undefined : Math.min(...this.due.values()) * 10;
  }
}

t.test(
  'the wheel fires as a sorted list would, after any mix of arming, moving, cancelling and jumps',
  async (t) => {
    // Spans of each level, their edges, and beyond the wheel's 46 hours.
    const reaches = [1, 15, 640, 641, 40_960, 2_621_440, 167_772_160, 500_000_000];
    for (let seed = 1; seed <= 40; seed++) {
      const random = seededRandom(seed);
      const below = (limit: number): number => Math.floor(random() * limit);
      const wheel = new TimerWheel();
      const model = new Model();
      let fired: string[] = [];
      const timers = Array.from({ length: 60 }, (_, i) => {
        return new TestTimer(`${i}`, (timer, atMs) => {
          fired.push(timer.armed || atMs !== nowMs ? `${timer.name}: armed, or told ${atMs}` : timer.name);
        });
      });
      // Start far from 0, as a machine's clock does.
      let nowMs = seed % 2 === 0 ? 0 : 12_345_678_901.5;
      wheel.advance(nowMs);
      model.advance(nowMs);
      let allFired = 0;
      for (let step = 0; step < 1500; step++) {
        const timer = timers[below(timers.length)]!;
        const action = below(10);
        if (action < 6) {
          const atMs = nowMs - 20 + random() * reaches[below(reaches.length)]!;
          wheel.arm(timer, atMs);
          model.arm(timer, atMs);
        } else if (action < 7) {
          wheel.cancel(timer);
          model.cancel(timer);
        } else {
          nowMs += random() * reaches[below(reaches.length - 1)]!;
          fired = [];
          wheel.advance(nowMs);
          const expected = model.advance(nowMs);
          allFired += expected.length;
          if (fired.sort().join() !== expected.join()) {
            t.strictSame(fired, expected, `seed ${seed}, step ${step}`);
            return;
          }
        }
        if (wheel.size !== model.size) t.equal(wheel.size, model.size, `size, seed ${seed}, step ${step}`);
        const nextMs = wheel.nextAtMs() ?? Number.POSITIVE_INFINITY;
        const firstMs = model.firstMs ?? Number.POSITIVE_INFINITY;
        if (nextMs > firstMs || (model.firstMs === undefined) !== (wheel.nextAtMs() === undefined)) {
          t.fail(`seed ${seed}, step ${step}: ${nextMs} is announced, ${firstMs} comes first`);
          return;
        }
      }
      t.ok(allFired > 100, `${allFired} timers fired with seed ${seed}`);
    }
  },
);

t.test('a timer fires never early, and at most one tick late', async (t) => {
  for (const atMs of [0.001, 9.999, 10, 10.001, 639.5, 640, 4096, 40_960.01, 123_456.7]) {
    const wheel = new TimerWheel({ tickMs: 10 });
    let firedAtMs = -1;
    wheel.arm(
      new TestTimer('one', (_, nowMs) => {
        firedAtMs = nowMs;
      }),
      atMs,
    );
    for (let nowMs = 0; firedAtMs < 0 && nowMs < 200_000; nowMs += 0.5) wheel.advance(nowMs);
    t.ok(firedAtMs >= atMs && firedAtMs < atMs + 10.5, `armed for ${atMs}, fired at ${firedAtMs}`);
  }
});

t.test('callbacks may arm, move and cancel', async (t) => {
  const wheel = new TimerWheel();
  const fired: string[] = [];
  const victim = new TestTimer('victim', () => fired.push('victim'));
  const moved = new TestTimer('moved', () => fired.push('moved'));
  const again = new TestTimer('again', (timer, nowMs) => {
    fired.push(timer.name);
    // A timer for now, or for a time that has passed, fires at the next tick, or `advance` would never end.
    if (fired.length < 5) wheel.arm(timer, fired.length % 2 === 0 ? nowMs : nowMs - 1000);
  });
  wheel.arm(
    new TestTimer('first', () => {
      fired.push('first');
      wheel.cancel(victim);
      wheel.arm(moved, 900);
      wheel.arm(again, 0);
    }),
    100,
  );
  wheel.arm(victim, 100);
  wheel.arm(moved, 100);
  wheel.advance(500);
  t.strictSame(fired, ['first'], 'what a callback arms comes after the advance it is called from');
  wheel.advance(500);
  t.strictSame(fired, ['first'], 'the same time again is no new tick');
  for (const nowMs of [510, 520, 530, 540, 550]) wheel.advance(nowMs);
  t.strictSame(fired, ['first', 'again', 'again', 'again', 'again']);
  wheel.advance(899);
  t.ok(moved.armed);
  wheel.advance(900);
  t.equal(fired.at(-1), 'moved');
  t.notOk(victim.armed);
  t.equal(wheel.size, 0);
  t.equal(wheel.nextAtMs(), undefined);
  wheel.cancel(victim);
  t.equal(wheel.size, 0, 'cancelling what is not armed does nothing');
  wheel.advance(100);
  wheel.arm(victim, 910);
  wheel.advance(909);
  t.notOk(fired.includes('victim'), 'time that goes backwards is ignored');
  wheel.advance(910);
  t.ok(fired.includes('victim'));
});

t.test('advancing from within a callback does nothing, and loses nothing', async (t) => {
  const wheel = new TimerWheel();
  let fired = 0;
  for (let i = 0; i < 3; i++) {
    wheel.arm(
      new TestTimer('nested', () => {
        fired++;
        wheel.advance(5000);
      }),
      50,
    );
  }
  const later = new TestTimer('later');
  wheel.arm(later, 4000);
  wheel.advance(60);
  t.equal(fired, 3);
  t.ok(later.armed);
});

t.test('an error in one callback does not keep the others from firing', async (t) => {
  const wheel = new TimerWheel();
  let fired = 0;
  const failure = new Error('broken');
  const fail = (): never => {
    throw failure;
  };
  const count = (): void => {
    fired++;
  };
  for (const atMs of [100, 100, 2000, 50_000]) wheel.arm(new TestTimer('fine', count), atMs);
  wheel.arm(new TestTimer('broken', fail), 100);
  wheel.arm(new TestTimer('fine', count), 100);
  t.throws(() => wheel.advance(60_000), failure);
  t.equal(fired, 5);
  t.equal(wheel.size, 0);
  wheel.arm(new TestTimer('broken', fail), 70_000);
  wheel.arm(new TestTimer('broken', fail), 70_000);
  wheel.arm(new TestTimer('fine', count), 70_000);
  t.throws(() => wheel.advance(70_000), { name: 'AggregateError', errors: [failure, failure] });
  t.equal(fired, 6, 'the wheel goes on after errors');
});

t.test('a jump over a long empty stretch does not walk it tick by tick', async (t) => {
  const wheel = new TimerWheel({ tickMs: 1 });
  const yearMs = 365 * 86_400_000;
  wheel.advance(yearMs * 30);
  let fired = 0;
  for (let i = 1; i <= 20; i++) wheel.arm(new TestTimer('far', () => fired++), yearMs * (30 + i));
  // 630 billion ticks: only a jump stays within the test's time limit.
  wheel.advance(yearMs * 49);
  t.equal(fired, 19);
  wheel.advance(yearMs * 50);
  t.equal(fired, 20);
});

t.test('the wheel refuses invalid times and ticks', async (t) => {
  t.throws(() => new TimerWheel({ tickMs: 0 }), /tickMs is 0; give a whole number/);
  t.throws(() => new TimerWheel({ tickMs: 2.5 }), /tickMs is 2.5/);
  const wheel = new TimerWheel();
  const timer = new TestTimer('nan');
  t.throws(() => wheel.arm(timer, Number.NaN), /NaN/);
  t.notOk(timer.armed);
  wheel.arm(timer, Number.POSITIVE_INFINITY);
  wheel.advance(1e12);
  t.ok(timer.armed, 'never is a time');
});

t.test('a finished timer keeps no other alive', async (t) => {
  const wheel = new TimerWheel();
  const timers = Array.from({ length: 3 }, () => new TestTimer('one'));
  for (const timer of timers) wheel.arm(timer, 100);
  wheel.cancel(timers[1]!);
  wheel.advance(100);
  for (const { timerNode } of timers) t.match(timerNode, { next: undefined, previous: undefined });
});

/** Counts the process's real timers while `work` runs. */
async function countingTimeouts(work: () => Promise<void>): Promise<number> {
  const original = globalThis.setTimeout;
  let count = 0;
  globalThis.setTimeout = ((...args: Parameters<typeof original>) => {
    count++;
    return original(...args);
  }) as typeof original;
  try {
    await work();
  } finally {
    globalThis.setTimeout = original;
  }
  return count;
}

t.test('the driver fires timers of different lengths by one setTimeout at a time', async (t) => {
  const wheel = new TimerWheel();
  const driver = new WheelDriver(wheel, () => performance.now());
  t.teardown(() => driver.stop());
  const early: string[] = [];
  let fired = 0;
  const armed: TestTimer[] = [];
  const timeouts = await countingTimeouts(async () => {
    const startMs = performance.now();
    for (let i = 0; i < 20_000; i++) {
      // Use a deadline of a minute, as calls do; one in a hundred is short and fires.
      const atMs = startMs + (i % 100 === 0 ? 20 + (i % 7) * 30 : 60_000);
      const timer = new TestTimer(`${i}`, (_, nowMs) => {
        fired++;
        if (nowMs < atMs) early.push(`${nowMs} < ${atMs}`);
      });
      wheel.arm(timer, atMs);
      armed.push(timer);
    }
    await waitUntil('the short timers have fired', () => fired === 200);
  });
  t.strictSame(early, []);
  // waitUntil uses a setTimeout of its own module, which isn't counted.
  t.ok(timeouts < 100, `${timeouts} real timers for 20,000 armed ones`);
  t.equal(wheel.size, 19_800);
  for (const timer of armed) wheel.cancel(timer);
  wheel.arm(new TestTimer('after a pause', () => fired++), performance.now() + 30);
  await waitUntil('a timer armed on an empty wheel has fired', () => fired === 201);
  driver.stop();
  wheel.arm(new TestTimer('stopped', () => fired++), performance.now() + 10);
  await sleep(50);
  t.equal(fired, 201, 'a stopped driver fires nothing');
  driver.kick();
  t.equal(fired, 201);
});

t.test('the driver continues after a callback has thrown', async (t) => {
  const wheel = new TimerWheel();
  let nowMs = 0;
  const driver = new WheelDriver(wheel, () => nowMs);
  t.teardown(() => driver.stop());
  let fired = 0;
  wheel.arm(
    new TestTimer('broken', () => {
      throw new Error('broken');
    }),
    10,
  );
  wheel.arm(new TestTimer('fine', () => fired++), 100);
  nowMs = 20;
  t.throws(() => driver.kick(), /broken/);
  nowMs = 110;
  await waitUntil('the other timer has fired', () => fired === 1);
});

t.test('an armed wheel does not keep the process alive', async (t) => {
  const moduleAt = (name: string): string =>
    JSON.stringify(pathToFileURL(`${import.meta.dirname}/${name}`).href);
  const program = `
    const { Timer, TimerWheel } = await import(${moduleAt('timer-wheel.ts')});
    const { WheelDriver } = await import(${moduleAt('wheel-driver.ts')});
    class Never extends Timer { onTimeout() {} }
    const wheel = new TimerWheel();
    new WheelDriver(wheel);
    wheel.arm(new Never(), performance.now() + 3_600_000);
    console.log('armed', wheel.size);`;
  const run = promisify(execFile)(process.execPath, ['--input-type=module', '--eval', program], {
    timeout: 30_000,
    killSignal: 'SIGKILL',
  });
  t.match((await run).stdout, 'armed 1');
});

t.test('back-off grows to its maximum, and jitter is a fifth of it', async (t) => {
  const backoff = { baseMs: 25, multiplier: 2, maxMs: 250 };
  const middle = [1, 2, 3, 4, 5, 50].map((step) => backoffMs(backoff, step, 0.5));
  t.strictSame(middle, [25, 50, 100, 200, 250, 250]);
  t.equal(backoffMs(backoff, 1, 0), 20);
  t.ok(backoffMs(backoff, 5, 0.999999) < 300 && backoffMs(backoff, 5, 0.999999) > 299);
  t.equal(backoffMs(backoff, 0, 0.5), 25, 'a step before the first is the first');
  t.equal(backoffMs(backoff, 1e9, 0.5), 250);
});
