// "Now" on a virtual clock: which findings appear, which do not, in which order, and when they end.
import t from 'tap';
import type { EndpointFacts } from './endpoints.ts';
import { type ClusterFacts, Now, type NowFacts } from './now.ts';
import type { ModelFacts, ProviderFacts } from './providers.ts';
import type { WaitFacts } from './waits.ts';

const NO_WAITS: WaitFacts = {
  waiting: 0,
  longestMs: 0,
  thirdMs: 0,
  answers: 0,
  answersMs: 0,
  usual: { answers: 0, slowestMs: 0 },
};

const waits = (facts: Partial<WaitFacts>): WaitFacts => ({ ...NO_WAITS, ...facts });
/** This many calls that have waited for this long. */
const waiting = (count: number, ms: number, usualMs = 0): Partial<WaitFacts> => ({
  waiting: count,
  longestMs: count > 0 ? ms : 0,
  thirdMs: count > 2 ? ms : 0,
  usual: { answers: usualMs === 0 ? 0 : 40, slowestMs: usualMs },
});

const endpoint = (facts: Partial<EndpointFacts> = {}): EndpointFacts => ({
  address: '10.0.0.1:1',
  usable: true,
  service: 'in_service',
  pool: 'ready',
  because: '',
  absent: false,
  waiting: 0,
  longestMs: 0,
  ...facts,
});

const cluster = (facts: Partial<ClusterFacts> = {}): ClusterFacts => ({
  name: 'research',
  endpoints: [endpoint()],
  circuits: [],
  methods: [],
  calls: 0,
  errors: 0,
  behind: '',
  ...facts,
});

const model = (facts: Partial<ModelFacts> = {}): ModelFacts => ({
  model: 'small',
  outOfCredit: null,
  restsForMs: 0,
  restsBecause: '',
  isWaitedFor: true,
  awaiting: 0,
  goodAgoMs: 1_000,
  streak: undefined,
  waits: NO_WAITS,
  ...facts,
});

const provider = (models: ModelFacts[], facts: Partial<ProviderFacts> = {}): ProviderFacts => ({
  name: 'openai',
  circuit: 'closed',
  rejections: 0,
  lastFailure: '',
  models,
  ...facts,
});

const facts = (given: Partial<NowFacts> = {}): NowFacts => ({
  draining: false,
  notReadyBecause: '',
  app: 'app',
  clusters: [cluster()],
  providers: [],
  certificates: [],
  rejected: [],
  waitForOwnLimits: 0,
  wallMs: 0,
  ...given,
});

/** Looks once a second. */
function watch() {
  const now = new Now();
  let nowMs = 1_000_000;
  const look = (given: Partial<NowFacts> = {}) => now.assess(facts(given), (nowMs += 1_000));
  return {
    look,
    /** Looks this many times and returns the kinds of the last look. */
    kinds: (given: Partial<NowFacts> | ((second: number) => Partial<NowFacts>), looks = 1) => {
      let last = look(typeof given === 'function' ? given(0) : given);
      for (let i = 1; i < looks; i++) last = look(typeof given === 'function' ? given(i) : given);
      return last.findings.map(({ kind }) => kind);
    },
  };
}

const METHOD = '/agent.AgentService/ProcessTask';
const withMethod = (given: Partial<WaitFacts>): Partial<NowFacts> => ({
  clusters: [cluster({ methods: [{ method: METHOD, waits: waits(given) }] })],
});

t.test('without a finding the summary is one sentence', async (t) => {
  const { look } = watch();
  t.match(look(), {
    well: true,
    findings: [],
    summary: 'All is well: 1 endpoint is in service, no circuit is open.',
  });
  const two = cluster({ endpoints: [endpoint(), endpoint({ address: '10.0.0.2:1' })] });
  t.match(look({ clusters: [two] }), { summary: /^All is well: 2 endpoints are in service/ });
});

t.test('a long task does not count as a hang', async (t) => {
  const thin = watch();
  // Nineteen answers are too few to know the method.
  t.strictSame(
    thin.kinds((second) => withMethod(waiting(1, second * 1_000)), 600),
    [],
  );
  t.strictSame(
    thin.kinds((second) => withMethod(waiting(3, second * 1_000)), 600),
    [],
  );
  const usual = watch();
  // Tasks take up to 40 s; this one takes five minutes, and three take two.
  t.strictSame(
    usual.kinds((second) => withMethod(waiting(1, second * 1_000, 40_000)), 300),
    [],
  );
  t.strictSame(
    usual.kinds((second) => withMethod(waiting(3, second * 1_000, 40_000)), 120),
    [],
  );
  const cache = watch();
  // Other tasks are answered from a cache, in milliseconds, and one takes half a minute.
  t.strictSame(
    cache.kinds(
      (second) => withMethod({ ...waiting(1, second * 1_000, 5), answers: second, answersMs: second * 5 }),
      50,
    ),
    [],
  );
});

t.test('the report does not say that all is well while calls wait without known durations', async (t) => {
  const { look } = watch();
  t.match(look(withMethod(waiting(1, 10_000))), { well: true, summary: /^All is well/, detail: '' });
  t.match(look(withMethod(waiting(3, 240_000))), {
    well: false,
    findings: [],
    summary:
      'Nothing is known to be wrong, but an answer of research AgentService/ProcessTask has been waited for, and too few are known to say how long one takes.',
    detail: '3 calls wait, the longest for 4 min',
  });
  const slow = model({ waits: waits(waiting(1, 30_000)) });
  t.match(look({ ...withMethod(waiting(1, 25_000)), providers: [provider([slow])] }), {
    well: false,
    summary: /an answer of the model provider openai \(small\), and of 1 other has been waited for/,
    detail: '1 request waits, the longest for 30 s',
  });
  t.match(look(withMethod(waiting(1, 30_000, 40_000))), { well: true }, 'they usually take as long');
});

t.test('calls that wait far longer than usual are a finding', async (t) => {
  const { look, kinds } = watch();
  t.strictSame(kinds(withMethod(waiting(3, 300, 200)), 10), []);
  t.strictSame(
    kinds((second) => withMethod(waiting(8, 300 + second * 1_000, 200)), 5),
    [],
  );
  t.strictSame(
    kinds((second) => withMethod(waiting(8, 5_300 + second * 1_000, 200)), 3),
    ['no_answers'],
  );
  const { findings } = look(withMethod(waiting(8, 9_000, 9_000)));
  t.match(findings[0], {
    severity: 'bad',
    text: 'No answers from research AgentService/ProcessTask: calls wait for far longer than usual, and none is answered.',
    detail: '8 calls wait, the longest for 9 s; none of 40 before took longer than 200 ms',
    numbers: { waiting_calls: 8, longest_wait_ms: 9_000, usual_slowest_ms: 200 },
  });
  t.equal(
    look(withMethod(waiting(8, 10_000, 9_000))).findings[0]!.sinceMs,
    findings[0]!.sinceMs,
    'since when',
  );
  // Answers arrive, slow ones at first.
  const answered = (answers: number, answersMs: number) =>
    withMethod({ ...waiting(3, 9_000, 9_000), answers, answersMs });
  t.strictSame(kinds(answered(5, 50_000)), ['slow_answers']);
  t.match(look(answered(6, 60_000)).findings[0]!.detail, /answers take 10 s/);
  t.strictSame(
    kinds(withMethod({ ...waiting(0, 0, 9_000), answers: 20, answersMs: 62_000 })),
    [],
    'quick again',
  );
});

t.test(
  'slow answers one after the other, each alone; and what is slow for long becomes the usual',
  async (t) => {
    const { kinds } = watch();
    const answers = (count: number, each: number, usualMs = 200) =>
      withMethod({
        answers: count,
        answersMs: count * each,
        ...{ usual: { answers: 40, slowestMs: usualMs } },
      });
    t.strictSame(kinds(answers(0, 0), 3), []);
    t.strictSame(
      kinds((second) => answers(second + 1, 15_000, 15_000), 2),
      [],
      'two',
    );
    t.strictSame(
      kinds((second) => answers(second + 3, 15_000, 15_000), 30),
      ['slow_answers'],
      'three and more',
    );
    t.strictSame(
      kinds((second) => answers(second + 33, 15_000, 15_000), 600),
      [],
      'for ten minutes',
    );
  },
);

t.test('a silent endpoint is a finding when the silence lasts, with its cause', async (t) => {
  const { look, kinds } = watch();
  const absent = endpoint({ absent: true, waiting: 4, longestMs: 6_000 });
  const other = endpoint({ address: '10.0.0.2:1' });
  const one = { clusters: [cluster({ endpoints: [absent, other] })] };
  t.strictSame(kinds(one, 2), [], 'a pause');
  t.strictSame(kinds(one), ['endpoint_silent']);
  t.match(look(one).findings[0], {
    text: '10.0.0.1:1 of research gives no sign of life: its process is stopped or blocked, or its host does not answer.',
    detail: '4 calls wait for an answer, the longest for 6 s',
  });
  const ejected = endpoint({
    absent: true,
    service: 'ejected',
    usable: false,
    because: 'ejected (latency): slow',
  });
  t.strictSame(kinds({ clusters: [cluster({ endpoints: [ejected, other] })] }), ['endpoint_silent']);
  const all = { clusters: [cluster({ endpoints: [ejected, { ...absent, address: '10.0.0.2:1' }] })] };
  t.strictSame(kinds(all, 3), ['cluster_silent', 'endpoint_silent', 'endpoint_silent']);
  t.ok(look().well, 'they are back');
});

t.test('causes come before their consequences', async (t) => {
  const { look, kinds } = watch();
  const circuit = { method: METHOD, state: 'open', because: '5 calls in a row failed', behind: '' };
  const given = {
    clusters: [
      cluster({
        endpoints: [
          endpoint({ usable: false, because: 'connecting failed: refused', pool: 'backingOff' }),
          endpoint({
            address: '10.0.0.2:1',
            usable: false,
            service: 'ejected',
            because: 'ejected (latency): slow.',
          }),
        ],
        circuits: [circuit],
        calls: 100,
        errors: 90,
      }),
    ],
    certificates: [
      { setting: 'inbound.tls', expiresAtMs: 90, expires: 'then', validFromMs: 0, problem: '', inUse: true },
      {
        setting: 'outbound.clusters.a.tls',
        expiresAtMs: 110,
        expires: 'then',
        validFromMs: 0,
        problem: '',
        inUse: true,
      },
    ],
    wallMs: 100,
    notReadyBecause: 'the app is gone',
  };
  t.strictSame(kinds(given, 2), [
    'certificate_expired',
    'not_ready',
    'endpoint_unreachable',
    'endpoint_ejected',
    'no_endpoint',
    'circuit_open',
    'certificate_expires',
  ]);
  t.strictSame(
    look(given)
      .findings.slice(2, 4)
      .map(({ text }) => text),
    ['10.0.0.1:1 of research is unreachable: refused.', '10.0.0.2:1 of research is ejected: slow.'],
  );
  const behind = { ...circuit, behind: 'the model provider openai answered 401 to research' };
  t.match(
    look({ clusters: [cluster({ circuits: [behind] })] }).findings[0]!.text,
    'The circuit of research AgentService/ProcessTask is open: 5 calls in a row failed; behind it: the model provider openai answered 401 to research.',
  );
});

t.test(
  'a provider that refuses, throttles, fails: at once where nothing else is known, and until a success',
  async (t) => {
    const streak = (
      kind: 'refused' | 'throttled' | 'failed' | 'unanswered',
      what: string,
      inARow: number,
      agoMs = 0,
      goodAgoMs = 1_000,
    ) => model({ streak: { kind, what, said: '', inARow, agoMs, goodAgoMs } });
    const { look, kinds } = watch();
    const of = (one: ModelFacts, more: Partial<ProviderFacts> = {}) => ({
      providers: [provider([one], more)],
    });
    t.strictSame(kinds(of(streak('refused', '401', 1))), [], 'one caller with a wrong key among others');
    t.strictSame(kinds(of(streak('refused', '401', 3))), ['provider_refuses']);
    t.strictSame(
      kinds(of(streak('refused', '401', 1, 0, Number.POSITIVE_INFINITY))),
      ['provider_refuses'],
      'the first',
    );
    t.strictSame(
      kinds(of(streak('refused', '401', 1, 500_000, 560_000))),
      ['provider_refuses'],
      'thin traffic',
    );
    t.strictSame(kinds(of(streak('refused', '401', 9, 700_000, 900_000))), [], 'nobody has asked for long');
    const one = of(streak('refused', '401', 1, 20_000, 80_000));
    t.match(look(one).findings, [{ severity: 'warn', detail: 'once' }], 'a single refusal wakes nobody');
    t.strictSame(kinds(of(model())), [], 'the next request was answered');
    t.match(look(of(streak('refused', '401', 2, 0, 120_000))).findings, [
      { severity: 'bad', detail: '2 times in a row' },
    ]);
    const invented = {
      ...streak('refused', '404', 9),
      model: 'invented',
      goodAgoMs: Number.POSITIVE_INFINITY,
    };
    t.match(
      look({ providers: [provider([model(), invented])] }).findings,
      [{ severity: 'warn', text: /with 404: are the base URL and the model right\?$/ }],
      'a model that it does not have, while it serves another',
    );
    t.match(look(of(invented)).findings, [{ severity: 'bad' }], 'and where it serves none');
    const failed = streak('failed', '503', 3);
    const told = of({ ...failed, streak: { ...failed.streak!, said: 'openai: answered 503: busy' } });
    t.equal(look(told).findings[0]!.detail, '3 times in a row; openai: answered 503: busy');
    const left = of(streak('unanswered', '', 4));
    t.strictSame(kinds(left, 2), ['provider_slow']);
    t.match(look(left).findings[0]!.text, /openai does not answer small before callers leave/);
    t.strictSame(kinds(of(streak('failed', 'connection_lost', 3))), ['provider_fails']);
    t.strictSame(kinds(of(streak('throttled', '429', 1))), [], 'a retry has made it good');
    t.strictSame(kinds(of(streak('throttled', '429', 4))), ['provider_throttles']);
    t.strictSame(kinds(of(streak('throttled', '429', 4, 31_000))), [], 'half a minute ago');
    const waits = model({ awaiting: 12, restsForMs: 3_000, restsBecause: '429' });
    t.match(look(of(waits)).findings, [
      {
        kind: 'provider_throttles',
        text: 'The model provider openai throttles small (429).',
        detail: '12 requests wait; it may be asked again in 3 s',
      },
    ]);
    const long = model({ model: '', restsForMs: 7_200_000, restsBecause: '429', isWaitedFor: false });
    t.match(look(of(long)).findings, [
      {
        text: 'The model provider openai asked for a pause of requests without a model that is too long to wait for.',
      },
    ]);
    t.match(
      look(of(model({ outOfCredit: 'insufficient_quota', streak: streak('refused', '402', 5).streak })))
        .findings,
      [
        {
          kind: 'provider_unpaid',
          text: 'The model provider openai refuses small until it is paid: insufficient_quota.',
        },
      ],
    );
    const unpaid = (inARow: number, agoMs: number) =>
      look(
        of(
          model({
            outOfCredit: 'insufficient_quota',
            streak: streak('throttled', '429', inARow, agoMs).streak,
          }),
        ),
      )
        .findings.filter(({ kind }) => kind === 'provider_unpaid')
        .map(({ severity }) => severity);
    t.strictSame(unpaid(1, 5_000), ['warn'], 'once wakes nobody');
    t.strictSame(unpaid(2, 5_000), ['bad']);
    t.strictSame(unpaid(2, 700_000), [], 'nobody has asked for long');
    const open = look(
      of(streak('failed', '503', 8), { circuit: 'open', rejections: 3, lastFailure: 'openai: answered 503' }),
    );
    t.strictSame(
      open.findings.map(({ text }) => text),
      [
        'The model provider openai fails for small: 503.',
        'The circuit of the model provider openai is open, and requests are turned away: openai: answered 503.',
      ],
    );
  },
);

t.test('a provider that takes far longer than usual is a finding', async (t) => {
  const { look, kinds } = watch();
  const of = (given: Partial<WaitFacts>) => ({ providers: [provider([model({ waits: waits(given) })])] });
  t.strictSame(kinds(of(waiting(1, 700, 800)), 5), []);
  t.strictSame(
    kinds((second) => of(waiting(1, second * 1_000, 800)), 9),
    [],
    'one, for eight seconds',
  );
  t.strictSame(kinds(of(waiting(1, 8_100, 800)), 2), ['provider_slow']);
  t.strictSame(kinds(of({ ...waiting(0, 0, 800), answers: 9, answersMs: 9 })), []);
  t.strictSame(kinds(of(waiting(3, 5_100, 800)), 2), ['provider_slow'], 'three, for five');
  t.strictSame(kinds(of({}), 14), ['provider_slow'], 'nothing more is known');
  t.strictSame(kinds(of({})), [], 'for a quarter of a minute');
  t.match(look(of(waiting(3, 2_000, 800))).well, true);
});

t.test('recent failed and rejected calls are findings', async (t) => {
  const { look, kinds } = watch();
  const failing = (calls: number, errors: number) => ({ clusters: [cluster({ calls, errors })] });
  t.strictSame(kinds(failing(50, 0), 20), []);
  t.strictSame(kinds(failing(54, 2)), [], 'two of four');
  t.strictSame(kinds(failing(56, 4)), ['calls_fail']);
  t.match(look(failing(56, 4)).findings[0]!.detail, '4 of the latest 6 calls, in 15 s');
  t.strictSame(kinds(failing(57, 4)), ['calls_fail']);
  t.strictSame(kinds(failing(57, 4), 20), [], 'a while ago, and one was answered since');
  const turnedAway = (count: number) => ({
    rejected: [
      [
        'inbound',
        new Map([
          ['overloaded', count],
          ['deadline', 900],
        ]),
      ],
    ] as const,
  });
  t.strictSame(kinds(turnedAway(2), 20), []);
  t.strictSame(kinds(turnedAway(5)), ['turned_away']);
  t.strictSame(kinds(turnedAway(5), 20), []);
  t.strictSame(kinds({ waitForOwnLimits: 3 }, 5), [], 'for a moment');
  t.strictSame(kinds({ waitForOwnLimits: 3 }), ['own_limits']);
  const bus = (problem: string, dead = 0) => ({ bus: { problem, dead: [['research', dead]] as const } });
  t.strictSame(kinds(bus('it restarts')), [], 'for a moment');
  t.strictSame(kinds(bus('it restarts'), 3), ['bus_unavailable']);
  t.strictSame(kinds(bus('')), []);
  t.strictSame(kinds(bus('', 2)), ['dead_letters']);
});

t.test('a failing call each minute is a finding', async (t) => {
  const { look, kinds } = watch();
  const failing = (calls: number, errors: number) => ({ clusters: [cluster({ calls, errors })] });
  t.strictSame(kinds(failing(40, 0), 60), []);
  t.strictSame(kinds(failing(41, 1), 60), [], 'one');
  t.strictSame(kinds(failing(42, 2), 60), [], 'another');
  t.strictSame(kinds(failing(43, 3), 60), ['calls_fail'], 'and another');
  t.match(look(failing(43, 3)).findings, [
    { text: 'Each of the latest calls to research has failed.', detail: '3 in a row, the latest 60 s ago' },
  ]);
  t.strictSame(kinds(failing(44, 3)), [], 'one is answered');
  t.strictSame(kinds(failing(47, 6), 700), [], 'nobody has called for long');
});

t.test('findings beyond the page still count', async (t) => {
  const models = Array.from({ length: 30 }, (_, i) =>
    model({
      model: `invented-${i}`,
      streak: { kind: 'refused', what: '404', said: '', inARow: 2, agoMs: 0, goodAgoMs: 90_000 },
    }),
  );
  const { findings, leftOut, all } = watch().look({
    providers: [provider(models)],
    clusters: [cluster({ circuits: [{ method: METHOD, state: 'open', because: 'it fails', behind: '' }] })],
  });
  t.equal(findings.length, 20);
  t.equal(leftOut, 11);
  t.equal(all.length, 31);
  t.equal(all.at(-1)!.kind, 'circuit_open');
});

t.test('certificates that expire or have expired, and unusable files, are findings', async (t) => {
  const { look, kinds } = watch();
  const DAY = 86_400_000;
  const certificate = (leftMs: number, lifetimeMs: number, problem = '') => ({
    certificates: [
      {
        setting: 'inbound.tls',
        expiresAtMs: lifetimeMs,
        expires: 'then',
        validFromMs: 0,
        problem,
        inUse: leftMs > 0,
      },
    ],
    wallMs: lifetimeMs - leftMs,
  });
  t.strictSame(kinds(certificate(30 * DAY, 90 * DAY)), []);
  t.strictSame(kinds(certificate(6 * DAY, 90 * DAY)), ['certificate_expires']);
  t.strictSame(kinds(certificate(8 * DAY, 365 * DAY)), []);
  t.strictSame(kinds(certificate(600_000, 3_600_000)), [], 'an hour, half of it gone');
  t.strictSame(kinds(certificate(500_000, 3_600_000)), ['certificate_expires']);
  t.strictSame(kinds(certificate(0, DAY)), ['certificate_expired']);
  t.match(look(certificate(0, DAY)).findings[0]!.severity, 'bad');
  t.strictSame(kinds(certificate(DAY, 2 * DAY, 'no key')), ['certificate_unusable']);
  t.match(
    look({
      certificates: [{ ...certificate(1, 1).certificates[0]!, expiresAtMs: Number.POSITIVE_INFINITY }],
    }),
    {
      well: true,
    },
  );
});

t.test('a report has a bounded number of findings, and says how many more there are', async (t) => {
  const endpoints = Array.from({ length: 300 }, (_, i) =>
    endpoint({ address: `10.0.0.${i}:1`, usable: false, because: 'connecting failed: refused' }),
  );
  const { look } = watch();
  const { findings, leftOut } = look({ clusters: [cluster({ endpoints })] });
  t.equal(findings.length, 20);
  t.equal(leftOut, 281);
});

t.test(
  'an answer is noticed at the next look, when a wait that began behind it is older than that',
  async (t) => {
    const { kinds } = watch();
    const at = (second: number) =>
      withMethod({
        ...waiting(second < 1 ? 0 : 4, second * 1_000 - 200, 100),
        answers: second < 1 ? 29 : 30,
        answersMs: 3_000,
      });
    t.strictSame(kinds(at(0)), []);
    t.strictSame(
      kinds((second) => at(second + 1), 8),
      ['no_answers'],
    );
  },
);
