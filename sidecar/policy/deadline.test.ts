import t from 'tap';
import { attemptDeadlineAtMs, deadlineAtMs, deadlineOwner, timeLeftMs, timeoutHeader } from './deadline.ts';

t.test('the shorter timeout counts, and whose it was is known', async (t) => {
  const cases = [
    { caller: 0, configured: 0, at: 0, owner: 'none' },
    { caller: 0, configured: 60_000, at: 61_000, owner: 'configured' },
    { caller: 500, configured: 0, at: 1500, owner: 'caller' },
    { caller: 500, configured: 60_000, at: 1500, owner: 'caller' },
    { caller: 90_000, configured: 60_000, at: 61_000, owner: 'configured' },
    { caller: 60_000, configured: 60_000, at: 61_000, owner: 'caller' },
    { caller: 1e-6, configured: 60_000, at: 1000.000001, owner: 'caller' },
  ];
  for (const { caller, configured, at, owner } of cases) {
    t.equal(deadlineAtMs(1000, caller, configured), at, `caller ${caller}, configured ${configured}`);
    t.equal(deadlineOwner(caller, configured), owner, `caller ${caller}, configured ${configured}`);
  }
});

t.test('an attempt ends with its call at the latest', async (t) => {
  t.equal(attemptDeadlineAtMs(0, 1000, 0), 0);
  t.equal(attemptDeadlineAtMs(0, 1000, 200), 1200);
  t.equal(attemptDeadlineAtMs(5000, 1000, 0), 5000);
  t.equal(attemptDeadlineAtMs(5000, 1000, 200), 1200);
  t.equal(attemptDeadlineAtMs(1100, 1000, 200), 1100);
});

t.test('what is left is what the next hop is told', async (t) => {
  t.equal(timeLeftMs(0, 1000), Number.POSITIVE_INFINITY);
  t.equal(timeLeftMs(1500, 1000), 500);
  t.equal(timeLeftMs(1500, 1500), 0);
  t.equal(timeLeftMs(1500, 9000), 0);
  t.equal(timeoutHeader(0, 1000), undefined);
  t.equal(timeoutHeader(61_000, 1000), '60000m');
  t.equal(timeoutHeader(1500, 1499.5), '500000n');
  t.equal(timeoutHeader(1500, 9000), '1n', 'over, and not without a limit');
});
