// What the scaler makes of the pages of pods: a percentile that is right to a bucket, evidence about the provider, costs of pods,
// and errors where it does not know.
import { mock } from 'node:test';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { DURATION_BUCKETS, Durations } from '../../telemetry/durations.ts';
import { Activity } from './activity.ts';
import { BUSY_COST, COST_EVERY_MS, DeletionCosts, IDLE_COST } from './deletion-costs.ts';
import { Fleet } from './fleet.ts';
import { MergedDurations, merged, quantileOf } from './merged-durations.ts';
import { type Buckets, type PodPage, readPage } from './pod-page.ts';
import type { Pod } from './pods.ts';
import { ProviderBound } from './provider-bound.ts';

const BOUNDS = [...DURATION_BUCKETS, Number.POSITIVE_INFINITY];

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
  /** Whether the page tells when the process started. */
  tells: fc.boolean(),
});

t.test('the p99 of merged pods is at most one bucket from that of all their calls', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.array(step, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 5 }),
      (pods) => {
        const window = new MergedDurations(600_000);
        const all: number[] = [];
        for (const steps of pods) {
          let since: number[] = [];
          let starts = 1;
          let before: PodPage | undefined;
          let isKnown = true;
          for (const [at, { calls, event, tells }] of steps.entries()) {
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
            const page = pageOf(since, { startedAtSeconds: starts });
            if (event === 'begins anew' && !tells && before !== undefined && !fell(page, before)) {
              all.splice(all.length - calls.length);
              break;
            }
            window.add(at * 5_000, page, before);
            before = page;
          }
        }
        const seconds = quantileOf(window.within(600_000, 30_000), 0.99);
        if (all.length === 0) return seconds === undefined;
        const exact = all.sort((a, b) => a - b)[Math.ceil(0.99 * all.length) - 1]!;
        return Math.abs(bucketOf(seconds!) - bucketOf(exact)) <= 1;
      },
    ),
    { numRuns: 500 },
  );
  const window = new MergedDurations(600_000);
  window.add(0, pageOf([9, 9, 9]), undefined);
  window.add(100_000, pageOf([9, 9, 9, 0.1, 0.1]), pageOf([9, 9, 9]));
  t.ok(
    quantileOf(window.within(50_000, 100_000), 0.99)! <= 0.1,
    'what ended before the window does not count',
  );
});

function fell(page: PodPage, before: PodPage): boolean {
  const [now] = page.durations.values();
  const [then] = before.durations.values();
  return BOUNDS.some((bound) => now!.get(bound)! < then!.get(bound)!);
}

t.test(
  'pods whose sidecars have other bounds are merged at all bounds, spread evenly between their own',
  async (t) => {
    const fine: Buckets = new Map([
      [1, 2],
      [2, 5],
      [4, 9],
      [Number.POSITIVE_INFINITY, 10],
    ]);
    const coarse: Buckets = new Map([
      [2, 10],
      [8, 10],
      [Number.POSITIVE_INFINITY, 10],
    ]);
    t.strictSame(
      [...merged([fine, coarse])],
      [
        [1, 2 + 5],
        [2, 5 + 10],
        [4, 9 + 10],
        [8, 9 + 10],
        [Number.POSITIVE_INFINITY, 20],
      ],
    );
    t.equal(quantileOf(merged([fine, coarse]), 0.5), 1 + 3 / 8);
    t.equal(quantileOf(merged([fine, coarse]), 0.99), 8, 'beyond the last bound is the last bound');
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
  for (const other of [
    '',
    'up 1\n',
    '<html>outrigger_active_calls',
    'outrigger_active_calls{listener="inbound" 3',
  ])
    t.equal(readPage(other), undefined, other);
});

/** A page with one histogram: pairs of a bound and its count, as they stand there. */
const textOf = (...buckets: readonly (readonly [string, number | string])[]): string =>
  [
    'outrigger_active_calls{listener="inbound"} 1',
    ...buckets.map(
      ([le, count]) => `rpc_server_call_duration_seconds_bucket{rpc_method="a.B/C",le="${le}"} ${count}`,
    ),
  ].join('\n');

t.test('one pod whose page no sidecar can have written leaves the percentile to the others', async (t) => {
  const wrong: Record<string, readonly (readonly [string, number | string])[]> = {
    infinite: [
      ['1', '+Inf'],
      ['30', '+Inf'],
      ['+Inf', '+Inf'],
    ],
    'not a number': [
      ['1', 'NaN'],
      ['+Inf', 'NaN'],
    ],
    huge: [
      ['1', 0],
      ['+Inf', 1e300],
    ],
    negative: [
      ['1', -9],
      ['+Inf', -9],
    ],
    falling: [
      ['1', 500],
      ['5', 200],
      ['+Inf', 0],
    ],
    'only +Inf': [['+Inf', 100]],
    'without +Inf': [
      ['1', 100],
      ['5', 100],
    ],
    'bound below 0': [
      ['-5', 100],
      ['+Inf', 100],
    ],
    'bound of 1e308': [
      ['1e308', 100],
      ['+Inf', 100],
    ],
    'too many bounds': [...Array.from({ length: 300 }, (_, at) => [String(at + 1), 1] as const), ['+Inf', 1]],
  };
  for (const [what, buckets] of Object.entries(wrong)) {
    const { fleet, fake } = startFleet('a', 'b', 'c', 'liar');
    const next = () => {
      fake.clockMs += 5_000;
      return fleet.measure();
    };
    await next();
    for (const name of ['a', 'b', 'c']) fake.pages.set(name, pageOf([17, 17, 17]));
    fake.texts.set('liar', textOf(...buckets));
    t.throws(() => readPage(textOf(...buckets)), { message: /^\/metrics has / }, what);
    await next();
    t.equal(bucketOf(fleet.p99(60_000) as number), bucketOf(17), what);
  }

  // Its bounds are those of no other, and take none from them.
  const { fleet, fake } = startFleet('a', 'b', 'c', 'other');
  const next = () => {
    fake.clockMs += 5_000;
    return fleet.measure();
  };
  fake.texts.set('other', textOf(['0.003', 0], ['+Inf', 0]));
  await next();
  for (const name of ['a', 'b', 'c']) fake.pages.set(name, pageOf(Array(300).fill(17)));
  fake.texts.set('other', textOf(['0.003', 3], ['+Inf', 3]));
  await next();
  t.equal(bucketOf(fleet.p99(60_000) as number), bucketOf(17));
  // Each page is right, and no calls lead from one to the other.
  fake.texts.set('other', textOf(['0.003', 9_003], ['+Inf', 9_003]));
  await next();
  fake.texts.set('other', textOf(['0.003', 9_003], ['1', 9_003], ['+Inf', 99_003]));
  await next();
  t.ok(Number.isFinite(fleet.p99(60_000)));
  for (const name of ['a', 'b', 'c', 'other']) fake.texts.set(name, textOf(['+Inf', 4]));
  fake.clockMs += 20_001;
  await fleet.measure();
  t.throws(() => fleet.p99(60_000), { message: /0 of 4 pods .* no bound but \+Inf/ });
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
  pages: Map<string, PodPage>;
  /** Pages as they are read, in place of those above. */
  readonly texts: Map<string, string>;
  listFails: boolean;
  readonly written: string[];
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
    texts: new Map(),
    listFails: false,
    written: [],
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
      const text = fake.texts.get(name);
      const page = text === undefined ? fake.pages.get(name) : readPage(text);
      if (page === undefined) throw new Error('connection refused');
      return page;
    },
    writesCosts: true,
    now: () => fake.clockMs,
    onRound: () => {},
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
