// From values to tables, bars and pictures.
import t from 'tap';
import { ratioOfRounds } from '../measuring/ratios.ts';
import type { SectionResult, SectionRow } from '../measuring/results.ts';
import { lineThrough, meanRatio, summarize } from '../measuring/statistics.ts';
import { hottest, readProfile } from '../profile/cpu-profile.ts';
import { flameGraph } from '../profile/flame-graph.ts';
import { sections } from '../sections/all.ts';
import { slopeOf } from '../sections/soak.ts';
import { imageLaunch } from '../world/image.ts';
import { bars } from './document/bars.ts';
import { renderDocument } from './document/page.ts';
import { sectionReport } from './tables.ts';

function row(target: string, values: Record<string, number[]>, variant = ''): SectionRow {
  return { target, variant, values };
}

function resultOf(section: string, rows: SectionRow[]): SectionResult {
  const machine = { processor: 'a processor', cores: 2, kernel: '6', node: 'v24', build: 'sources' } as const;
  return {
    section,
    at: '2026-01-02T03:04:05Z',
    commit: 'abc',
    ...machine,
    loadBefore: 0,
    rounds: 3,
    seconds: 1,
    rows,
  };
}

const calls = resultOf('calls', [
  row('direct', { wide: [100_000, 100_000, 100_000] }),
  row('envoy', { wide: [10_000, 12_000, 8_000], many: [10, 10, 10] }),
  row('haproxy', { wide: [50_000, 50_000, 50_000] }),
  row('outrigger inbound', { wide: [50_000, 48_000, 40_000], many: [30, 30, 30] }),
  row('outrigger outbound', { wide: [30_000, 36_000, 24_000], many: [20, 20, 20] }),
]);

t.test('a summary has median and extremes, and a slope has its interval', async (t) => {
  t.match(summarize([3, 1, 2]), { median: 2, min: 1, max: 3 });
  t.match(summarize([4, 1, 2, 3]), { median: 2.5, min: 1, max: 4 });
  t.throws(() => summarize([]), /a summary needs a value/);
  const exact = lineThrough([0, 1, 2, 3].map((x) => [x, 5 + 2 * x] as const));
  t.ok(Math.abs(exact.slope - 2) < 1e-9 && exact.interval < 1e-9);
  const noisy = lineThrough([0, 1, 2, 3, 4, 5].map((x) => [x, x % 2] as const));
  t.ok(Math.abs(noisy.slope) < noisy.interval, 'the slope of noise is not different from 0');
  const rising = slopeOf(
    Array.from({ length: 160 }, (_, i) => 100 + i * 0.1 + (i % 3)),
    1 / 60,
  );
  t.ok(
    Math.abs(rising.slope - 6) < 0.5 && rising.slope > rising.interval,
    'a leak of 0.1 a second is 6 a minute',
  );
});

t.test('a section becomes tables with ratios to each peer', async (t) => {
  const section = sections.find(({ name }) => name === 'calls')!;
  const failing = row('nginx', {});
  failing.failures = ['no call ended'];
  const text = sectionReport(section, { ...calls, rows: [...calls.rows, failing] });
  t.match(text, /\| outrigger inbound +\| 48,000 \(40,000–50,000\)/);
  t.match(text, /Ratios to Envoy in the same run:/);
  t.match(text, /Ratios to HAProxy in the same run:/);
  t.match(text, /\*\*nginx failed\*\*: no call ended/);
  const ratios = text.slice(text.indexOf('Ratios to Envoy'));
  t.notMatch(ratios, /\| direct/, 'the table has no ratio to the upstream');
});

t.test('targets compare ratios of the same round', async (t) => {
  t.equal(ratioOfRounds(calls.rows[3], calls.rows[1], 'wide')!.median, 5);
  const findings = new Map(
    bars((section) => (section === 'calls' ? calls : undefined)).map((bar) => [
      `${bar.name} ${bar.limit}`,
      bar.findings,
    ]),
  );
  t.match(findings.get('calls a second, 4 x 25 ≥ 4 times Envoy'), [
    { of: 'outrigger inbound', text: '5.00 (4.00–5.00) times', holds: true },
    { of: 'outrigger outbound', text: '3.00 (3.00–3.00) times', holds: false },
  ]);
  t.match(findings.get('calls a second, 64 x 1 ≥ 2.5 times Envoy'), [{ holds: true }, { holds: false }]);
  t.strictSame(
    findings.get('chunks a second ≥ 3 times Envoy'),
    [],
    'a missing result neither holds nor fails',
  );
});

t.test('latency, memory, readiness, endpoints and the slope have their own targets', async (t) => {
  const results: Record<string, SectionResult> = {
    rates: resultOf('rates', [
      row('direct', { p50at1000: [1, 2, 1], p99at1000: [2, 2, 2] }),
      row('haproxy', { p50at1000: [2, 3, 2], p99at1000: [3, 3, 3] }),
      row('outrigger inbound', { p50at1000: [1.5, 2.5, 1.5], p99at1000: [4, 4, 4] }),
    ]),
    memory: resultOf('memory', [
      row('envoy', { idle: [60] }),
      row('outrigger inbound', { idle: [80] }),
      row('outrigger inbound', { idle: [50] }, 'image'),
    ]),
    ready: resultOf('ready', [row('outrigger outbound', { ready: [310, 290, 280] })]),
    endpoints: resultOf('endpoints', [
      row('outrigger outbound', { cpu: [100] }, '1'),
      row('outrigger outbound', { cpu: [120] }, '1000'),
    ]),
    soak: resultOf('soak', [row('outrigger inbound', { slope: [0.5], interval: [0.2], mib: [1, 2] })]),
  };
  const byName = new Map(bars((section) => results[section]).map((bar) => [bar.name, bar.findings]));
  t.match(byName.get('added p50 at 1,000/s'), [{ text: '0.500 (0.500–0.500) ms', holds: true }]);
  t.match(byName.get('added p99 at 1,000/s'), [{ holds: false }]);
  t.match(byName.get('idle memory'), [{ of: 'outrigger inbound, image', holds: true }]);
  t.match(byName.get('time to ready'), [{ text: '290 (280–310) ms', holds: true }]);
  t.match(byName.get('cost of a call at 1,000 endpoints'), [{ text: '1.20 times', holds: false }]);
  t.match(byName.get('slope of memory in the long run'), [
    { text: '0.500 ± 0.200 MiB a minute', holds: false },
  ]);
  const { markdown, pictures } = renderDocument((section) => results[section]);
  t.match(markdown, /Difference to `direct`/);
  t.match(markdown, /Not measured yet: `npm run bench -- --rows tls`/);
  t.ok(pictures.has('performance-soak.svg') && pictures.has('performance-endpoints.svg'));
  for (const [name, svg] of pictures) t.ok(svg.startsWith('<svg xmlns=') && svg.endsWith('</svg>\n'), name);
});

t.test('a CPU profile becomes a tree, a list and a page', async (t) => {
  const node = (id: number, functionName: string, url: string, children: number[] = []) => ({
    id,
    callFrame: { functionName, url, lineNumber: 9 },
    children,
  });
  const root = readProfile({
    nodes: [
      node(1, '(root)', '', [2, 3]),
      node(2, '(idle)', ''),
      node(3, 'read', 'file:///a/sidecar/http2/reader.ts', [4]),
      node(4, '<write>', 'node:net'),
    ],
    samples: [2, 3, 4, 4],
    timeDeltas: [1_000, 100, 100, 200],
  });
  t.equal(root.totalUs, 400, 'idle time is not work');
  t.match(hottest(root)[0], { name: '<write>', share: 0.75 });
  t.equal(root.children[0]!.place, 'http2/reader.ts:10');
  const page = flameGraph('a & b', root);
  t.match(page, /a &amp; b/);
  t.match(page, /&lt;write&gt; node:net:10: 75.00 %/);
});

t.test("the bench runs the image with the Dockerfile's flags", async (t) => {
  const { nodeArgs, env } = imageLaunch();
  t.ok(nodeArgs.every((flag) => flag.startsWith('--')));
  t.equal(env['NODE_ENV'], 'production');
});

t.test('the interval of a mean ratio follows from its values', async (t) => {
  const same = meanRatio([1.02, 1.02, 1.02]);
  for (const value of Object.values(same)) t.ok(Math.abs(value - 1.02) < 1e-9, 'equal ratios have no spread');
  const { ratio, low, high } = meanRatio([0.5, 2]);
  t.ok(Math.abs(ratio - 1) < 1e-9, 'a half and a double cancel out');
  t.ok(Math.abs(low * high - 1) < 1e-9, 'the interval is symmetric in the logarithm');
  t.ok(high > 1_000, 'two values give a wide interval');
  const many = meanRatio(Array.from({ length: 20 }, (_, i) => (i % 2 === 0 ? 0.99 : 1.01)));
  t.ok(many.low > 0.99 && many.high < 1.01, 'many values give a narrow interval');
  t.throws(() => meanRatio([1]), /two ratios/);
});
