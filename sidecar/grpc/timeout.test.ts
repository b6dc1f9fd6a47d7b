// Parsing and formatting of `grpc-timeout`.
import t from 'tap';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { formatTimeout, parseTimeout, SHORTEST_TIMEOUT_MS } from './timeout.ts';

t.test('every unit parses to milliseconds', async (t) => {
  const expected: [string, number][] = [
    ['1H', 3_600_000],
    ['2M', 120_000],
    ['3S', 3000],
    ['4m', 4],
    ['5u', 0.005],
    ['6n', 0.000006],
    ['99999999H', 359_999_996_400_000],
    ['00000007S', 7000],
    ['123456789S', 123_456_789_000],
    ['9999999999u', 9_999_999.999],
    ['10000000000000000000n', 1e13],
    ['100000000H', 359_999_996_400_000],
    ['99999999999999999999H', 359_999_996_400_000],
    ['0n', SHORTEST_TIMEOUT_MS],
    ['0S', SHORTEST_TIMEOUT_MS],
  ];
  for (const [value, timeoutMs] of expected) t.equal(parseTimeout(value), timeoutMs, value);
});

t.test('a value outside the grammar is NaN', async (t) => {
  const malformed = [
    '',
    'S',
    '5',
    '5s',
    '5h',
    `${'1'.repeat(21)}n`,
    '-1S',
    '+1S',
    '1.5S',
    '1 S',
    ' 1S',
    '1S ',
    '1SS',
    '0x1S',
  ];
  for (const value of [...malformed, '١S', '1e3m', 'NaNm', `${'9'.repeat(100_000)}S`]) {
    t.ok(Number.isNaN(parseTimeout(value)), JSON.stringify(value.slice(0, 20)));
  }
});

t.test('a formatted timeout has three to eight digits', async (t) => {
  const expected: [number, string][] = [
    [60_000, '60000m'],
    [59_999.9, '59999m'],
    [1000, '1000m'],
    [999.9999, '999999u'],
    [12.3456, '12345u'],
    [1, '1000u'],
    [0.5, '500000n'],
    [0.0000019, '1n'],
    [99_999_999.9, '99999999m'],
    [100_000_000, '100000S'],
    [1e11, '1666666M'],
    [1e13, '2777777H'],
    [1e300, '99999999H'],
    [Number.POSITIVE_INFINITY, '99999999H'],
  ];
  for (const [timeoutMs, value] of expected) t.equal(formatTimeout(timeoutMs), value, `${timeoutMs}`);
  for (const over of [0, -0, -5, Number.NaN, Number.NEGATIVE_INFINITY, 1e-9])
    t.equal(formatTimeout(over), '1n');
});

t.test('a timeout that is formatted and parsed is never longer, and hardly shorter', async (t) => {
  const random = seededRandom(7);
  const problems: string[] = [];
  for (let i = 0; i < 200_000; i++) {
    // Every magnitude from a nanosecond to ten thousand years, and the edges between units.
    const magnitude = 10 ** (random() * 20.5 - 6);
    const timeoutMs = i % 3 === 0 ? Math.round(magnitude * 1000) / 1000 + 1e-6 : magnitude;
    const value = formatTimeout(timeoutMs);
    const back = parseTimeout(value);
    const isClose = back > timeoutMs * 0.999 || timeoutMs < 0.001;
    if (!(back <= timeoutMs && isClose) || !/^[1-9]\d{0,7}[HMSmun]$/.test(value)) {
      problems.push(`${timeoutMs} became ${value}, which is ${back}`);
    }
  }
  t.strictSame(problems.slice(0, 5), []);
});
