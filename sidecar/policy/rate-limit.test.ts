/** Tests the token buckets of callers. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { RateLimiter } from './rate-limit.ts';

const SETTINGS = { callsPerSecond: 10, burst: 3, maxCallers: 4 };

t.test(
  'the limiter admits a burst, then one call each interval, with a pushback to the next token',
  async (t) => {
    const limiter = new RateLimiter(SETTINGS);
    const take = (nowMs: number, cost?: number) => limiter.take('a', nowMs, cost);
    t.strictSame([take(1_000), take(1_000), take(1_000), take(1_000)], [0, 0, 0, 100]);
    t.equal(take(1_060), 40);
    t.equal(take(1_100), 0);
    t.equal(take(1_100), 100);
    t.equal(take(9_000, 3), 0);
    t.equal(take(9_000, 2), 200);
    t.equal(limiter.take('b', 9_000), 0, 'each caller for itself');
    t.equal(take(20_000, 5), 0, 'more than a burst needs a full bucket');
    t.equal(take(20_100, 5), 400);
    t.equal(take(20_100), 200, 'and is paid for');
    limiter.settings = { ...SETTINGS, callsPerSecond: 0.001 };
    t.strictSame([limiter.take('c', 1), limiter.take('c', 1, 3)], [0, 60_000], 'at most a minute');
    t.throws(() => new RateLimiter({ ...SETTINGS, callsPerSecond: 0 }), /above 0/);
    t.throws(() => new RateLimiter({ ...SETTINGS, burst: Number.NaN }), /burst is NaN/);
  },
);

t.test('the number of callers is bounded, and no caller that owes is forgotten', async (t) => {
  const limiter = new RateLimiter(SETTINGS);
  for (const name of ['a', 'b', 'c', 'd']) for (let i = 0; i < 3; i++) limiter.take(name, 0);
  for (let i = 0; i < 1_000; i++) limiter.take(`invented-${i}`, 1);
  t.equal(limiter.callers, 4);
  t.equal(limiter.take('a', 2), 98, 'inventing names does not help');
  t.ok(limiter.take('new', 3) > 0, 'those without a bucket share one');
  t.equal(limiter.take('e', 1_000), 0);
  t.equal(limiter.callers, 4);
  t.equal(limiter.take('a', 1_000), 0);
  const long = 'x'.repeat(10_000);
  for (let i = 0; i < 3; i++) limiter.take(long, 5_000);
  t.ok(limiter.take(`${long}y`, 5_000) > 0);
});

t.test('each caller gets its rate and its burst, no more and no less', async (t) => {
  const request = fc.record({ who: fc.nat(6), afterMs: fc.nat(300) });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 400 }), (requests) => {
      const limiter = new RateLimiter({ callsPerSecond: 7, burst: 4, maxCallers: 100 });
      const tokens = new Map<number, { left: number; atMs: number }>();
      let nowMs = 0;
      for (const { who, afterMs } of requests) {
        nowMs += afterMs;
        const bucket = tokens.get(who) ?? { left: 4, atMs: nowMs };
        tokens.set(who, bucket);
        bucket.left = Math.min(bucket.left + ((nowMs - bucket.atMs) * 7) / 1000, 4);
        bucket.atMs = nowMs;
        const waitMs = limiter.take(`caller-${who}`, nowMs);
        if (waitMs === 0) bucket.left--;
        if (bucket.left < -1e-3) throw new Error('too much');
        if (waitMs > 0 && bucket.left > 1 + 1e-3) throw new Error('too little');
        if (waitMs > 0 && Math.abs(Math.ceil(((1 - bucket.left) * 1000) / 7 - 1e-3) - waitMs) > 1)
          throw new Error(`${waitMs} ms for ${1 - bucket.left} tokens`);
      }
    }),
    { numRuns: 200 },
  );
  t.pass();
});
