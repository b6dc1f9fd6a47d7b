import t from 'tap';
import { readReport } from './h2load.ts';
import { summarize } from './statistics.ts';

const report = `
finished in 3.00s, 66612.50 req/s, 10.74MB/s
requests: 133225 total, 133225 started, 133225 done, 133225 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 133225 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 21.48MB (22522060) total, 1.97MB (2064503) headers (space savings 93.64%), 23.26MB (24391250) data
                     min         max         mean         sd        +/- sd
time for request:      162us     10.37ms      1.42ms      1.14ms    87.02%
time for connect:        0us         0us         0us         0us     0.00%
req/s           :   16610.82    16686.05    16651.59       34.66    75.00%
`;

t.test("reads h2load's report", async (t) => {
  t.strictSame(readReport(report), {
    callsPerSecond: 66_612.5,
    calls: 133_225,
    failed: 0,
    dataBytes: 24_391_250,
    meanMs: 1.42,
  });
  t.equal(readReport(report.replace('1.42ms', '678us')).meanMs, 0.678);
  const withErrors = report
    .replace('0 failed', '7 failed')
    .replace('0 5xx', '5 5xx')
    .replace('0 4xx', '3 4xx');
  t.equal(readReport(withErrors).failed, 15);
  t.throws(() => readReport('no report'), /has no/);
});

t.test('summarizes by median and extremes', async (t) => {
  t.match(summarize([3, 1, 2]), { median: 2, min: 1, max: 3 });
  t.match(summarize([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  t.throws(() => summarize([]), /nothing was measured/);
});
