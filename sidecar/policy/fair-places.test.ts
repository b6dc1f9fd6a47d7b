/** Tests how callers share places that are few. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { FairPlaces, Holder } from './fair-places.ts';

/** Takes places until this caller may have no more. */
function fill(places: FairPlaces, holder: Holder): number {
  while (places.take(holder));
  return holder.held;
}

t.test('a caller alone may hold seven eighths of the places, or all of a few', async (t) => {
  for (const limit of [0, 1, 2, 3, 7, 8, 9, 15, 16, 100, 256, 1_024, 65_535]) {
    const places = new FairPlaces(limit);
    t.equal(fill(places, new Holder()), limit - Math.floor(limit / 8), `${limit}`);
  }
  const endless = new FairPlaces(Number.POSITIVE_INFINITY);
  const holder = new Holder();
  for (let i = 0; i < 10_000; i++) endless.take(holder);
  t.equal(holder.held, 10_000);
});

t.test('a caller with too many places gives way as its calls end', async (t) => {
  const places = new FairPlaces(1_024);
  const [gateway, other] = [new Holder(), new Holder()];
  t.equal(fill(places, gateway), 896);
  t.ok(places.take(other), 'a newcomer finds a place at once');
  t.notOk(places.hasRoomFor(gateway), 'although others are free');
  fill(places, other);
  // The first caller takes a new place for each that it gives back, before the other one asks.
  for (let i = 0; i < 1_000; i++) {
    places.release(gateway);
    places.take(gateway);
    places.take(other);
  }
  t.ok(Math.abs(gateway.held - other.held) <= 7, `${gateway.held} and ${other.held}`);
  t.ok(places.used < 1_024, 'and the next one finds a place');
  while (other.held > 0) places.release(other);
  t.equal(fill(places, gateway), 896, 'alone again');
});

t.test('many callers get about equal shares, and one that needs few places gets them', async (t) => {
  for (const count of [2, 5, 20, 100]) {
    const places = new FairPlaces(1_024);
    const greedy = Array.from({ length: count }, () => new Holder());
    const modest = new Holder();
    for (let i = 0; i < 3; i++) places.take(modest);
    // The callers take turns.
    for (let i = 0; i < 1_024; i++) for (const holder of greedy) places.take(holder);
    const held = greedy.map((holder) => holder.held);
    t.ok(
      Math.max(...held) - Math.min(...held) <= 1,
      `${count}: ${Math.min(...held)} to ${Math.max(...held)}`,
    );
    t.ok(places.take(modest), `${count}: a fourth place for who has three`);
  }
});

t.test('limits and sums hold, and misuse throws', async (t) => {
  const places = new FairPlaces(16);
  const holder = new Holder();
  fill(places, holder);
  places.limit = 4;
  t.notOk(places.take(new Holder()), 'a lower limit turns nobody out and lets nobody in');
  places.limit = 1_000;
  t.ok(places.take(holder));
  t.throws(() => places.release(new Holder()), /given back twice/);
  t.throws(() => new FairPlaces(Number.NaN), /the limit is NaN/);
  t.throws(() => {
    places.limit = -1;
  }, /the limit is -1/);
  fc.assert(
    fc.property(
      fc.nat(40),
      fc.array(fc.tuple(fc.nat(5), fc.boolean()), { maxLength: 400 }),
      (limit, steps) => {
        const places = new FairPlaces(limit);
        const holders = Array.from({ length: 6 }, () => new Holder());
        for (const [which, takes] of steps) {
          const holder = holders[which]!;
          if (takes) places.take(holder);
          else if (holder.held > 0) places.release(holder);
          const sum = holders.reduce((before, { held }) => before + held, 0);
          if (sum !== places.used || sum > limit)
            throw new Error(`${sum} of ${limit}, ${places.used} counted`);
          if (places.used < limit && !places.hasRoomFor(new Holder()))
            throw new Error('no room for a newcomer');
        }
      },
    ),
  );
});
