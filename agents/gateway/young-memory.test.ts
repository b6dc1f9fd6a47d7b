// The limit of V8's memory for new objects.
import { getHeapSpaceStatistics } from 'node:v8';
import t from 'tap';
import { keepYoungMemorySmall } from './young-memory.ts';

const youngBytes = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === 'new_space')!.space_size;

t.test("V8's young generation stays small under many allocations", async (t) => {
  t.equal(keepYoungMemorySmall('--max-semi-space-size=4'), false, 'a Node option has precedence');
  t.equal(keepYoungMemorySmall(''), true);
  const before = youngBytes();
  const kept: unknown[] = [];
  for (let at = 0; at < 3_000_000; at++) kept[at % 200_000] = { at: [at] };
  t.ok(youngBytes() <= Math.max(before, 8_388_608), `${youngBytes()} bytes, ${before} before`);
  t.equal(kept.length, 200_000);
});
