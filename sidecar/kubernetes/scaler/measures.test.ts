// What the scaler makes of the pages of pods: a percentile that is right to a bucket, evidence about the provider, costs of pods,
// and errors where it does not know.
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mock } from 'node:test';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { DURATION_BUCKETS, Durations } from '../../telemetry/durations.ts';
import { Activity } from './activity.ts';
import { BUSY_COST, COST_EVERY_MS, DeletionCosts, IDLE_COST } from './deletion-costs.ts';
import { Fleet, type RoundOutcome } from './fleet.ts';
import { MergedDurations, quantileOf } from './merged-durations.ts';
import { type Buckets, MAX_BUCKETS, MAX_NAME_CHARS, MAX_SERIES } from './page-durations.ts';
import { PageError } from './page-error.ts';
import { MAX_LINE_CHARS, MAX_PAGE_BYTES, PageLines } from './page-lines.ts';
import { PageReader, type PodPage } from './pod-page.ts';
import type { Pod } from './pods.ts';
import { ProviderBound } from './provider-bound.ts';
import { scrape } from './scrape.ts';
import { chosenBounds, mergedAt } from './shared-bounds.ts';

const BOUNDS = [...DURATION_BUCKETS, Number.POSITIVE_INFINITY];

/** Reads a page that comes in parts of so many bytes. */
function readPage(text: string, partBytes = 65_536): PodPage | undefined {
  const reader = new PageReader();
  const lines = new PageLines((line) => reader.line(line));
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += partBytes) lines.add(bytes.subarray(at, at + partBytes));
  lines.end();
  return reader.page();
}

/** A page of a sidecar that has counted these calls since its start. */
function pageOf(seconds: readonly number[], changes: Partial<PodPage> = {}): PodPage {
  const counted = new Durations();
  for (const each of seconds) counted.record(each);
  let below = 0;
  const buckets = new Map(BOUNDS.map((bound, at) => [bound, (below += counted.buckets[at]!)]));
  return {
    startedAtSeconds: 0,
    activeCalls: 0,
    durations: new Map([['agent.AgentService/ProcessTask\nOK', buckets]]),
    modelAttempts: 0,
    throttledAttempts: 0,
    modelRequests: 0,
    waitingRequests: 0,
    cooling: false,
    ...changes,
  };
}

/** The bucket that has a value: the index of its upper bound. */
const bucketOf = (seconds: number): number => BOUNDS.findIndex((bound) => seconds <= bound);

const durations = fc.array(
  // Exponents, so that all buckets get their calls.
  fc.double({ min: -9, max: 9, noNaN: true }).map((exponent) => Math.exp(exponent)),
  { maxLength: 60 },
);
/** What one pod does from one page to the next. */
const step = fc.record({
  calls: durations,
  event: fc.constantFrom('goes on', 'goes on', 'goes on', 'begins anew', 'vanishes'),
});
const podSteps = fc.record({
  steps: fc.array(step, { minLength: 1, maxLength: 6 }),
  /** Whether its pages tell when the process started. */
  tells: fc.boolean(),
});

t.test('the p99 of merged pods is at most one bucket from that of all their calls', async (t) => {
  fc.assert(
    fc.property(fc.array(podSteps, { minLength: 1, maxLength: 5 }), (pods) => {
      const window = new MergedDurations(600_000);
      const all: number[] = [];
      for (const { steps, tells } of pods) {
        let since: number[] = [];
        let starts = 1;
        let before: PodPage | undefined;
        let isKnown = true;
        for (const [at, { calls, event }] of steps.entries()) {
          if (event === 'vanishes') break;
          if (event === 'begins anew') {
            // Without its start, what a page shows is a new beginning only if it counts less than the one before.
            isKnown = tells || calls.length < since.length;
            since = [];
            if (tells) starts++;
          }
          if (!isKnown) break;
          since.push(...calls);
          all.push(...calls);
          const page = pageOf(since, { startedAtSeconds: tells ? starts : 0 });
          if (event === 'begins anew' && !tells && before !== undefined && !fell(page, before)) {
            all.splice(all.length - calls.length);
            break;
          }
          window.add(at * 5_000, page, before);
          before = page;
        }
      }
      const seconds = quantileOf(window.within(600_000, 30_000, BOUNDS).calls, 0.99);
      if (all.length === 0) return seconds === undefined;
      const exact = all.sort((a, b) => a - b)[Math.ceil(0.99 * all.length) - 1]!;
      return Math.abs(bucketOf(seconds!) - bucketOf(exact)) <= 1;
    }),
    { numRuns: 500 },
  );
  const window = new MergedDurations(600_000);
  window.add(0, pageOf([9, 9, 9]), undefined);
  window.add(100_000, pageOf([9, 9, 9, 0.1, 0.1]), pageOf([9, 9, 9]));
  t.ok(
    quantileOf(window.within(50_000, 100_000, BOUNDS).calls, 0.99)! <= 0.1,
    'what ended before the window does not count',
  );
});

function fell(page: PodPage, before: PodPage): boolean {
  const [now] = page.durations.values();
  const [then] = before.durations.values();
  return BOUNDS.some((bound) => now!.get(bound)! < then!.get(bound)!);
}

const INF = Number.POSITIVE_INFINITY;
const at = (...counts: [number, number][]): Buckets => new Map(counts);

t.test(
  'histograms are merged at the bounds of most pods, and those that lack one are left out',
  async (t) => {
    const fine = at([1, 2], [2, 5], [4, 9], [INF, 10]);
    const coarse = at([2, 10], [4, 10], [INF, 10]);
    const odd = at([3, 7], [INF, 7]);
    const vote = (...all: Buckets[]) => chosenBounds(all.map((buckets) => [...buckets.keys()]));
    t.strictSame(vote(odd, coarse, fine, coarse), [2, 4, INF]);
    t.strictSame(vote(fine, coarse, odd), [2, 4, INF], 'of ties the ones that most can tell');
    t.strictSame(vote(odd, fine), [1, 2, 4, INF], 'or else the finer ones');
    t.strictSame(
      chosenBounds(
        [
          [1, INF],
          [2, INF],
        ],
        [2, INF],
      ),
      [2, INF],
      'or else the present ones',
    );
    t.strictSame(chosenBounds([], [2, INF]), [2, INF]);
    t.strictSame([...mergedAt([2, 4, INF], [fine, coarse, odd])], [...at([2, 15], [4, 19], [INF, 20])]);
    t.equal(quantileOf(mergedAt([2, 4, INF], [fine, coarse]), 0.5), 2 * (10 / 15));
    t.equal(
      quantileOf(mergedAt([2, 4, INF], [fine, coarse]), 0.99),
      4,
      'beyond the last bound is the last bound',
    );
    t.equal(quantileOf(new Map(), 0.99), undefined);
  },
);

t.test('a page is read as a sidecar writes it, and another page is none', async (t) => {
  const page = readPage(
    [
      '# TYPE outrigger_active_calls gauge',
      'process_start_time_seconds 1764540000.25',
      'outrigger_active_calls{listener="inbound"} 3',
      'outrigger_active_calls{listener="outbound"} 9',
      'rpc_server_call_duration_seconds_bucket{le="1",rpc_method="a.B/C",rpc_status_code="OK"} 2',
      'rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_method="a.B/C",rpc_status_code="OK"} 4 # {trace_id="x"} 1',
      'rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_method="grpc.health.v1.Health/Watch",rpc_status_code="OK"} 7',
      'rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_method="agent.AgentService/HealthCheck",rpc_status_code="OK"} 7',
      'rpc_server_call_duration_seconds_bucket{le="+Inf",rpc_method="outrigger.v1.Tasks/Watch",rpc_status_code="OK"} 7',
      'outrigger_llm_attempts_total{agent="r",upstream="o",model="m \\"x\\" }",outcome="429"} 5',
      'outrigger_llm_attempts_total{agent="r",upstream="o",model="m",outcome="success"} 3',
      'outrigger_llm_attempts_total{agent="r",upstream="o",model="m",outcome="cancelled"} 3',
      'outrigger_llm_active_requests 4',
      'outrigger_llm_waiting_requests 2',
      'outrigger_llm_cooldown_seconds{upstream="o",model="m"} 0.5',
      'outrigger_llm_cooldown_seconds{upstream="p",model="m"} 0',
      'outrigger_llm_requests_total{outcome="success"} not a number',
    ].join('\n'),
  );
  t.strictSame(page, {
    startedAtSeconds: 1764540000.25,
    activeCalls: 3,
    durations: new Map([
      [
        'a.B/C\nOK',
        new Map([
          [1, 2],
          [Number.POSITIVE_INFINITY, 4],
        ]),
      ],
    ]),
    modelAttempts: 8,
    throttledAttempts: 5,
    modelRequests: 4,
    waitingRequests: 2,
    cooling: true,
  });
  for (const other of ['', 'up 1\n', '<html>outrigger_active_calls'])
    t.equal(readPage(other), undefined, other);
});

/** The page as a sidecar writes it. */
function textOf({ startedAtSeconds, activeCalls, durations }: PodPage): string {
  const lines = [
    `process_start_time_seconds ${startedAtSeconds}`,
    `outrigger_active_calls{listener="inbound"} ${activeCalls}`,
  ];
  for (const [series, buckets] of durations) {
    const [method, code] = series.split('\n');
    for (const [bound, count] of buckets) {
      const le = bound === INF ? '+Inf' : bound;
      lines.push(
        `rpc_server_call_duration_seconds_bucket{rpc_method="${method}",rpc_status_code="${code}",le="${le}"} ${count}`,
      );
    }
  }
  return `${lines.join('\n')}\n`;
}

const HEAD = 'process_start_time_seconds 7\noutrigger_active_calls{listener="inbound"} 1\n';
const bucketsText = (counts: readonly (readonly [string, string])[], method = 'a.B/C') =>
  counts
    .map(([le, n]) => `rpc_server_call_duration_seconds_bucket{rpc_method="${method}",le="${le}"} ${n}\n`)
    .join('');
const histogram = (...counts: [string, string][]) => HEAD + bucketsText(counts);
const ALL_BOUNDS = BOUNDS.map((bound) => (bound === INF ? '+Inf' : String(bound)));
const all = (count: (at: number) => string) =>
  HEAD + bucketsText(ALL_BOUNDS.map((le, at) => [le, count(at)] as const));

/** Pages that can't be so, whatever the page before. */
const LIES: Record<string, [text: string, message: RegExp]> = {
  'endless counts': [all(() => '+Inf'), /a value of rpc_server_call_duration_seconds_bucket is no count/],
  'counts that are none': [all(() => 'NaN'), /is no count/],
  'negative counts': [all((each) => String(-each - 1)), /is no count/],
  'more than anybody can count': [all((each) => (each < 24 ? '0' : '1e300')), /is no count/],
  'no bound but infinity': [histogram(['+Inf', '9']), /has no bound but \+Inf/],
  'no infinity': [histogram(['1', '9'], ['2', '9']), /lacks the bound \+Inf/],
  'a negative bound': [
    histogram(['-5', '9'], ['+Inf', '9']),
    /a bound of a histogram is no number of seconds/,
  ],
  'a bound of 0': [histogram(['0', '9'], ['+Inf', '9']), /a bound/],
  'a bound beyond all time': [histogram(['1e308', '9'], ['+Inf', '9']), /a bound/],
  'a bound that is none': [histogram(['x', '9'], ['+Inf', '9']), /a bound/],
  'counts that fall': [all((each) => String(50 - each)), /fewer calls up to a bound than up to a lower one/],
  'one bound written in two ways': [histogram(['1', '9'], ['1.0', '9'], ['+Inf', '9']), /twice/],
  'the page twice': [all(() => '9').repeat(2), /twice, as if it were of two sidecars/],
  'two pods in one page': [
    `outrigger_active_calls{listener="inbound",pod="b"} 2\n${all(() => '9')}`,
    /two sidecars/,
  ],
  'methods with other bounds': [
    all(() => '9') +
      bucketsText(
        [
          ['1', '3'],
          ['+Inf', '3'],
        ],
        'd.E/F',
      ),
    /different bounds/,
  ],
  'endless bounds': [
    HEAD + bucketsText(Array.from({ length: 300 }, (_, each) => [String(each + 1), '1'] as const)),
    /more than 256 bounds/,
  ],
  'a line that is cut': [`${all(() => '9')}rpc_server_call_duration_seconds_bucket{le="1`, /has no number/],
  'an endless label': [
    `${HEAD}rpc_server_call_duration_seconds_bucket{rpc_method="${'x'.repeat(15 << 20)}",le="1"} 1\n`,
    /a line has more than 16384 characters/,
  ],
  'a line that is too long and of no use': [
    `${HEAD}other{x="${'y'.repeat(MAX_LINE_CHARS)}"} 1\n`,
    /a line has/,
  ],
  'an endless page': [HEAD + '# nothing\n'.repeat(1_700_000), /more than 16 MiB/],
  "buckets of histograms that don't end": [
    HEAD +
      Array.from({ length: 200 }, (_, le) =>
        Array.from({ length: 50 }, (_, method) => bucketsText([[String(le + 1), '1']], `a.B/${method}`)).join(
          '',
        ),
      ).join(''),
    /more than 8192 buckets/,
  ],
  'fewer than no calls in flight': [
    'outrigger_active_calls{listener="inbound"} -1\n',
    /active_calls is no count/,
  ],
};

t.test('a page with a value that no sidecar counts is wrong as a whole', async (t) => {
  for (const [lie, [text, message]] of Object.entries(LIES)) {
    t.throws(() => readPage(text), { name: 'PageError', message }, lie);
    t.throws(() => readPage(text), PageError, lie);
  }
  t.ok(readPage(textOf(pageOf([1, 2, 3]))), 'and a right one is not');
  const written = textOf(pageOf([1, 2, 3])).replaceAll('a.B', 'ä€😀.B');
  t.strictSame(readPage(written, 1), readPage(written), 'however it comes');
  const waits = 'outrigger_llm_active_requests 3\noutrigger_llm_waiting_requests 1e15\n';
  t.equal(readPage(HEAD + waits)?.waitingRequests, 3, 'no more wait than there are');
});

t.test('of a page with endless names few are kept, and those as a hash', async (t) => {
  const names = Array.from({ length: 1_000 }, (_, each) => `${each}.${'x'.repeat(4_000)}/C`);
  const long = readPage(
    HEAD +
      names
        .map((name) =>
          bucketsText(
            [
              ['1', '1'],
              ['+Inf', '1'],
            ],
            name,
          ),
        )
        .join(''),
  )!;
  t.equal(long.durations.size, MAX_SERIES);
  t.ok([...long.durations.keys()].every((name) => name.length <= MAX_NAME_CHARS));
  const wide = ALL_BOUNDS.map((le) => [le, '1'] as const);
  const many = readPage(HEAD + names.map((_, each) => bucketsText(wide, `a.B/${each}`)).join(''))!;
  const buckets = [...many.durations.values()].reduce((sum, { size }) => sum + size, 0);
  t.ok(buckets > MAX_BUCKETS / 2 && buckets <= MAX_BUCKETS, `${buckets} buckets, of whole histograms`);
  // A pattern that looks for labels from each letter anew would take minutes.
  const attempts = Array.from(
    { length: 900 },
    (_, each) => `outrigger_llm_attempts_total{model="${each}",${'x'.repeat(MAX_LINE_CHARS - 100)}} 1\n`,
  );
  t.equal(readPage(HEAD + attempts.join(''))?.modelAttempts, 900);
});

t.test('a pod that answers without an end is cut off, and one that answers otherwise says how', async (t) => {
  const closed: Promise<unknown>[] = [];
  let sent = 0;
  const ends: Record<string, (response: ServerResponse) => void> = {
    '/whole': (response) => void response.end(HEAD.trimEnd()),
    '/cut': (response) => void response.write(HEAD, () => response.socket!.destroy()),
    '/status': (response) => void response.writeHead(503).end(HEAD),
    '/other': (response) => void response.end('up 1'),
    '/silent': () => {},
  };
  const texts: Record<string, string> = {
    '/line': 'x'.repeat(65_536),
    '/page': '# a comment\n'.repeat(5_000),
  };
  let kind = '/line';
  const server = createServer((_request, response) => {
    closed.push(new Promise((done) => response.socket!.on('close', done)));
    response.on('error', () => {});
    const end = ends[kind];
    if (end !== undefined) {
      end(response);
      return;
    }
    response.write(HEAD);
    const more = (): void => {
      while (!response.destroyed && !response.writableNeedDrain) {
        sent += texts[kind]!.length;
        response.write(texts[kind]!);
      }
    };
    response.on('drain', more);
    more();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => void server.close());
  const { port } = server.address() as AddressInfo;
  // What the buffers of two sockets and of the stream between them take.
  const buffered = 12 << 20;
  for (const [each, message, most] of [
    ['/line', /a line has more than 16384 characters/, buffered],
    ['/page', /more than 16 MiB/, MAX_PAGE_BYTES + buffered],
  ] as const) {
    kind = each;
    sent = 0;
    await t.rejects(scrape('127.0.0.1', port), { name: 'PageError', message });
    await closed.at(-1);
    t.ok(sent <= most, `${sent} bytes were sent`);
  }
  kind = '/whole';
  t.match(await scrape('127.0.0.1', port), { startedAtSeconds: 7, activeCalls: 1 });
  for (const [each, message] of [
    ['/cut', /aborted/],
    ['/status', /answered 503/],
    ['/other', /is not a sidecar's/],
    ['/silent', /timeout/],
  ] as const) {
    kind = each;
    await t.rejects(scrape('127.0.0.1', port), { message }, each);
    await closed.at(-1);
  }
});

t.test('the work waits for the provider when a good part of it is throttled, and only then', async (t) => {
  const judged = (...pages: Partial<PodPage>[]): boolean => {
    const provider = new ProviderBound();
    let before = pageOf([]);
    for (const [at, changes] of pages.entries()) {
      const page = pageOf([], changes);
      provider.add(at * 5_000, page, before);
      before = page;
    }
    return provider.isBound((pages.length - 1) * 5_000);
  };
  t.equal(judged({ modelAttempts: 10, throttledAttempts: 10 }), true, 'a storm');
  t.equal(judged({ modelAttempts: 100, throttledAttempts: 3 }), false, 'three of a hundred');
  t.equal(judged({ modelAttempts: 100 }, { modelAttempts: 100 }), false, 'nothing new');
  t.equal(
    judged({ modelRequests: 8, waitingRequests: 8, cooling: true }),
    true,
    'all wait, and nothing is sent',
  );
  t.equal(judged({ modelRequests: 8, waitingRequests: 8 }), false, 'for a limit of their own');
  t.equal(judged({ modelRequests: 8, waitingRequests: 1, cooling: true }), false, 'one of eight waits');
  const old = [
    { modelAttempts: 10, throttledAttempts: 10 },
    ...Array(13).fill({ modelAttempts: 10, throttledAttempts: 10 }),
  ];
  t.equal(judged(...old), false, 'a minute later it is over');
  t.equal(judged({}), false);
});

t.test('a cost is written when a pod turns, at most every 30 s, and never over that of others', async (t) => {
  const costs = new DeletionCosts();
  const due = (atMs: number, isBusy: boolean, cost?: string) =>
    costs.due(atMs, [{ uid: 'a', cost, isBusy }]).map((write) => write.cost);
  t.strictSame(due(0, false), [IDLE_COST]);
  t.strictSame(due(1_000, false, IDLE_COST), []);
  t.strictSame(due(2_000, true, IDLE_COST), [], 'it waits for its turn');
  t.strictSame(due(COST_EVERY_MS, true, IDLE_COST), [BUSY_COST]);
  t.strictSame(due(COST_EVERY_MS + 1, true, IDLE_COST), [], 'the write is under way, or has failed');
  t.strictSame(due(3 * COST_EVERY_MS, true, BUSY_COST), []);
  t.strictSame(due(4 * COST_EVERY_MS, false, '7'), [], "an operator's");
  t.ok(Number(IDLE_COST) < 0 && Number(BUSY_COST) > 0, 'a pod that nobody knows is between the two');
});

interface FakePods {
  clockMs: number;
  pods: Pod[];
  /** A text is read as the scaler reads that of a pod. */
  pages: Map<string, PodPage | string>;
  listFails: boolean;
  readonly written: string[];
  last: RoundOutcome | undefined;
}

const podNamed = (name: string, changes: Partial<Pod> = {}): Pod => ({
  uid: name,
  name,
  ip: '10.0.0.1',
  isReady: true,
  cost: undefined,
  ...changes,
});

function startFleet(...names: string[]): { fleet: Fleet; fake: FakePods } {
  const fake: FakePods = {
    clockMs: 0,
    pods: names.map((name) => podNamed(name)),
    pages: new Map(names.map((name) => [name, pageOf([])])),
    listFails: false,
    written: [],
    last: undefined,
  };
  const fleet = new Fleet({
    selection: { namespace: 'agents', selector: 'app=research' },
    pods: {
      list: async () => {
        if (fake.listFails) throw new Error("can't list the pods");
        return fake.pods;
      },
      writeCost: async (_namespace, { name }, cost) => void fake.written.push(`${name} ${cost}`),
    },
    scrape: async ({ name }) => {
      const page = fake.pages.get(name);
      if (page === undefined) throw new Error('connection refused');
      return typeof page === 'string' ? readPage(page)! : page;
    },
    writesCosts: true,
    now: () => fake.clockMs,
    onRound: (outcome) => void (fake.last = outcome),
  });
  return { fleet, fake };
}

t.test('a fleet says what it knows, and throws what it does not', async (t) => {
  const { fleet, fake } = startFleet('a', 'b');
  const next = (ms = 5_000) => {
    fake.clockMs += ms;
    return fleet.measure();
  };
  const p99 = () => fleet.p99(60_000);
  t.throws(p99, { message: /not known yet/ });
  await next();
  t.throws(p99, { message: /since a moment ago/ }, 'one page shows no growth');
  t.strictSame(fake.written.splice(0), [`a ${IDLE_COST}`, `b ${IDLE_COST}`]);
  await next();
  t.equal(p99(), 0, 'nobody has called');
  t.equal(fleet.isActive(60_000), false);

  fake.pages.set('a', pageOf([], { activeCalls: 2 }));
  await next(COST_EVERY_MS);
  t.equal(p99(), 'busy', 'calls are in flight, and nobody knows how long they will have taken');
  t.equal(fleet.isActive(60_000), true);
  t.ok(fake.written.includes(`a ${BUSY_COST}`));

  fake.pages.set('a', pageOf([3, 3]));
  await next();
  t.equal(bucketOf(p99() as number), bucketOf(3));
  fake.pods = [podNamed('b')];
  await next();
  t.equal(bucketOf(p99() as number), bucketOf(3), 'what a pod served before it vanished still counts');
  t.equal(fleet.replicas, 1);
  fake.pods = [podNamed('b'), podNamed('c')];
  fake.pages.set('c', pageOf([700, 700, 700]));
  await next();
  t.equal(bucketOf(p99() as number), bucketOf(700), 'a new pod counts from its first page on');

  fake.pages.clear();
  await next();
  t.equal(fleet.replicas, 2, 'the pages are fresh enough');
  await next(20_001);
  t.throws(p99, { message: /0 of 2 pods app=research of agents could be read: pod c: connection refused/ });
  t.throws(() => fleet.isActive(60_000));
  fake.listFails = true;
  await next(20_001);
  t.equal(fleet.replicas, undefined);
  t.throws(p99, { message: /can't list the pods/ });

  fake.listFails = false;
  fake.pods = [];
  await next();
  t.equal(p99(), 0, 'no pod, no call: that is known');
  t.equal(fleet.isActive(60_000), false);
});

/** What a liar shows next, of the page that would be true. */
type Lie = (truth: PodPage) => string;
const scaled = (factor: number, startedAtSeconds: number): Lie => {
  return ({ durations }) => {
    const [[series, buckets]] = [...durations] as [[string, Buckets]];
    const counts = new Map([...buckets].map(([bound, count]) => [bound, Math.floor(count * factor)]));
    return textOf(pageOf([], { durations: new Map([[series, counts]]), startedAtSeconds }));
  };
};
const lies: Lie[] = [
  ...Object.values(LIES)
    .filter(([text]) => text.length < 100_000)
    .map(
      ([text]) =>
        () =>
          text,
    ),
  // Right by themselves, and wrong beside the page before or those of the other pods.
  scaled(0.5, 7),
  scaled(1e12, 7),
  scaled(1e12, 8),
  () => all((each) => (each < 24 ? '0' : '1e15')),
  () => all(() => '1e15'),
  () => histogram(['0.000001', '99'], ['+Inf', '99']),
  () => histogram(['0.005', '0'], ['3600', '99'], ['+Inf', '99']),
  () => 'up 1\noutrigger_active_calls{listener="inbound"} 0\n',
];

t.test(
  'a minority that lies moves the p99 by no more than a bucket, and never makes it 0, NaN or an error',
  async (t) => {
    let answers = 0;
    const round = fc.record({
      calls: fc.array(durations, { minLength: 7, maxLength: 7 }),
      lies: fc.array(fc.constantFrom(...lies), { minLength: 3, maxLength: 3 }),
    });
    const scene = fc.record({
      pods: fc.integer({ min: 3, max: 7 }),
      liars: fc.integer({ min: 1, max: 3 }),
      honest: fc.array(round, { minLength: 1, maxLength: 2 }),
      lying: fc.array(round, { minLength: 1, maxLength: 4 }),
    });
    await fc.assert(
      fc.asyncProperty(scene, async ({ pods, liars, honest, lying }) => {
        const names = Array.from({ length: pods }, (_, each) => `pod-${each}`);
        const liarCount = Math.min(liars, Math.floor((pods - 1) / 2));
        const { fleet, fake } = startFleet(...names);
        const served = names.map(() => [] as number[]);
        const startedAtSeconds = 7;
        const show = (): void => {
          for (const [each, name] of names.entries())
            fake.pages.set(name, textOf(pageOf(served[each]!, { startedAtSeconds })));
        };
        show();
        await fleet.measure();
        const rounds = [...honest.map((each) => ({ ...each, isTrue: true })), ...lying, undefined];
        for (const each of rounds) {
          fake.clockMs += 5_000;
          const isTrue = each === undefined || 'isTrue' in each;
          for (let pod = 0; each !== undefined && pod < pods; pod++)
            if (isTrue || pod >= liarCount) served[pod]!.push(...each.calls[pod]!);
          show();
          for (let liar = 0; !isTrue && liar < liarCount; liar++)
            fake.pages.set(names[liar]!, each.lies[liar]!(pageOf(served[liar]!, { startedAtSeconds })));
          await fleet.measure();
          const exact = served.flat().sort((a, b) => a - b);
          const seconds = fleet.p99(60_000);
          if (exact.length === 0) {
            if (seconds === 0 || seconds === 'busy') continue;
            return false;
          }
          answers++;
          const right = exact[Math.ceil(0.99 * exact.length) - 1]!;
          if (!(Number(seconds) > 0 && Math.abs(bucketOf(Number(seconds)) - bucketOf(right)) <= 1))
            return false;
        }
        return true;
      }),
      { numRuns: 200 },
    );
    t.ok(answers > 200, 'most rounds have calls');
  },
);

t.test('a fleet whose pages are wrong says so, and goes on when they are right again', async (t) => {
  const { fleet, fake } = startFleet('a', 'b', 'c');
  const told = { startedAtSeconds: 7 };
  const next = (...pages: (PodPage | string)[]) => {
    for (const [each, name] of ['a', 'b', 'c'].entries()) fake.pages.set(name, pages[each % pages.length]!);
    fake.clockMs += 5_000;
    return fleet.measure();
  };
  const p99 = () => fleet.p99(60_000);
  await next(pageOf([1], told));
  await next(pageOf([1, 3], told));
  t.equal(bucketOf(p99() as number), bucketOf(3));
  const [lie] = LIES['endless counts']!;
  await next(pageOf([1, 3], told), lie, histogram(['2', '5'], ['+Inf', '5']));
  t.match(fake.last, { read: 1, leftOut: 2, problems: [/pod b: .*no count/, /pod c: .*lack bounds/] });
  for (let round = 0; round < 5; round++) await next(lie);
  t.throws(p99, { name: 'FleetError', message: /0 of 3 pods .* read: pod .: \/metrics is wrong/ });
  t.throws(() => fleet.isActive(60_000));
  await next(pageOf([1, 3, 20], told));
  t.equal(bucketOf(p99() as number), bucketOf(20), 'right again');

  const other = (count: string) =>
    histogram(['2', count], ['50', count], ['+Inf', count]).replace(' 7', ' 9');
  await next(other('0'));
  t.throws(
    p99,
    { message: /at other bounds than those of most pods/ },
    'all pods have another version: not 0',
  );
  t.equal(fleet.isActive(60_000), true);
  await next(other('5'));
  t.equal(p99(), 1.98);

  const alone = startFleet('a');
  const show = (page: PodPage | string, ms = 5_000) => {
    alone.fake.pages.set('a', page);
    alone.fake.clockMs += ms;
    return alone.fleet.measure();
  };
  const problem = () => alone.fake.last?.problems.join();
  await show(pageOf([9, 9, 9], told));
  await show(pageOf([9, 9], told));
  t.match(problem(), /its counters have fallen, although its process has not begun anew/);
  await show(pageOf([9, 9, 9, 1], told));
  t.equal(problem(), '');
  t.equal(
    bucketOf(alone.fleet.p99(60_000) as number),
    bucketOf(1),
    'what it had counted before is no growth',
  );
  await show(all(() => '1e15'));
  t.match(problem(), /more calls since the last look than a sidecar can have served/);
  await show(histogram(['+Inf', '9']), 30_000);
  t.throws(() => alone.fleet.p99(60_000), { message: /0 of 1 pods .*no bound but/ });
  await show(pageOf([9], told), 700_000);
  t.equal(alone.fleet.p99(60_000), 0, 'a pod that was away for long is seen as for the first time');
});

t.test('whoever waits for work hears of it by the event alone', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  let onWork = (): void => {};
  let active: boolean | Error = false;
  const told: boolean[] = [];
  const settle = async () => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  const activity = new Activity(
    {
      isActive: async () => {
        if (active instanceof Error) throw active;
        return active;
      },
      listen: (listener) => {
        onWork = listener;
        return () => {
          onWork = () => {};
        };
      },
    },
    (now) => void told.push(now),
  );
  await settle();
  t.strictSame(told, [false], 'the state is told at once');
  active = true;
  onWork();
  // Less than what lies between two looks without an event.
  mock.timers.tick(50);
  await settle();
  t.strictSame(told, [false, true]);
  active = new Error('the bus is away');
  mock.timers.tick(10_000);
  await settle();
  t.strictSame(told, [false, true], 'nothing is told of what nobody knows');
  active = false;
  mock.timers.tick(2_000);
  await settle();
  t.strictSame(told, [false, true, false]);
  activity.stop();
  active = true;
  onWork();
  mock.timers.tick(10_000);
  await settle();
  t.strictSame(told, [false, true, false]);
});
