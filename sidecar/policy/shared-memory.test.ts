// A bounded memory that callers share: who gets a part of it, and who waits.
import t from 'tap';
import { type Claim, SharedMemory } from './shared-memory.ts';

const MIB = 1_048_576;

t.test('claims share the memory fairly, and small ones pass by the line', async (t) => {
  let nowMs = 0;
  const memory = new SharedMemory(16 * MIB, () => nowMs);
  const granted: string[] = [];
  const claim = (name: string, bytes: number, caller = name): Claim => {
    const one: Claim = { caller, bytes, granted: false, sinceMs: 0, onGranted: () => granted.push(name) };
    memory.enter(one);
    return one;
  };
  const first = claim('flood 1', 6 * MIB, 'flood');
  claim('flood 2', 6 * MIB, 'flood');
  const third = claim('flood 3', 4 * MIB, 'flood');
  claim('flood 4', 4 * MIB, 'flood');
  t.strictSame(granted, ['flood 1', 'flood 2'], 'three quarters are for one caller');
  const other = claim('other', 3 * MIB);
  t.equal(granted.at(-1), 'flood 2', 'seven eighths are for large claims');
  const small = claim('small', 60_000);
  t.equal(granted.at(-1), 'small', 'a small one does not wait behind them');
  t.equal(memory.waiting, 3);
  nowMs = 4_000;
  t.ok(memory.againMs() >= 1_000);
  memory.release(first);
  t.strictSame(granted.slice(3), ['other', 'flood 3'], 'who holds least is first');
  t.ok(memory.againMs() > 1_000, 'by what others have held it for');
  memory.release(third);
  t.equal(granted.at(-1), 'flood 4');
  memory.shrink(other, 10);
  memory.release(other);
  memory.release(small);
  memory.release(small);
  t.equal(memory.bytes, 10 * MIB);
  const whole = claim('whole', 20 * MIB);
  const gone = claim('gone', 10 * MIB);
  t.equal(memory.waiting, 2);
  memory.release(gone);
  memory.setMax(64 * MIB);
  t.ok(whole.granted, 'more memory lets them in');
  t.equal(memory.waiting, 0);
});
