// The churn map against a `Map`, and its effect on the old generation.
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { ChurnMap, hashOf } from './churn-map.ts';

t.test('the churn map holds the same entries as a Map', async (t) => {
  const step = fc.record({
    key: fc.nat({ max: 60 }).map((key) => `task-${key}`),
    what: fc.constantFrom('set', 'delete', 'get'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 500 }), (steps) => {
      const map = new ChurnMap<number>();
      const model = new Map<string, number>();
      for (const [i, { key, what }] of steps.entries()) {
        if (what === 'set') {
          map.set(key, i);
          model.set(key, i);
        } else if (what === 'delete' && map.delete(key) !== model.delete(key)) return false;
        if (map.get(key, hashOf(key)) !== model.get(key) || map.size !== model.size) return false;
      }
      return [...model].every(([key, value]) => map.get(key) === value);
    }),
    { numRuns: 500 },
  );
  t.pass();
});

t.test('the map distinguishes keys of the same hash', async (t) => {
  const map = new ChurnMap<string>();
  for (const key of ['a', 'b', 'c']) map.set(key, key, 7);
  t.equal(map.delete('b', 7), true);
  t.equal(map.delete('b', 7), false);
  t.strictSame(
    ['a', 'b', 'c'].map((key) => map.get(key, 7)),
    ['a', undefined, 'c'],
  );
});

t.test('the next small collection frees deleted entries', async (t) => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (options?: { type: 'minor' }) => void;
  const oldMiB = (): number =>
    getHeapSpaceStatistics().find(({ space_name: name }) => name === 'old_space')!.space_used_size / 2 ** 20;
  /** Returns how much the old generation grows while entries are added to and deleted from an old map. */
  const growth = (map: Pick<Map<string, unknown>, 'set' | 'delete'>): number => {
    map.set('first', {});
    gc();
    gc();
    const before = oldMiB();
    const keys: string[] = [];
    for (let i = 0; i < 200_000; i++) {
      keys.push(`call-${i}`);
      map.set(keys.at(-1)!, { data: new Array(20).fill(i) });
      if (keys.length > 50) map.delete(keys.shift()!);
      if (i % 5_000 === 0) gc({ type: 'minor' });
    }
    return oldMiB() - before;
  };
  const churned = growth(new ChurnMap<unknown>() as never);
  t.ok(churned < 15, `${churned.toFixed(1)} MiB`);
  const usual = growth(new Map());
  t.ok(usual > 2 * churned, `${usual.toFixed(1)} MiB: with a Map this is still needed`);
});
