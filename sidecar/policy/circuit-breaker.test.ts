/** Tests the circuit breaker: its states, the evidence that opens it, and its probes. */

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { checkArrows } from '../../test/support/arrows.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import type { CircuitBreakerSettings } from './circuit-breaker-settings.ts';
import { CircuitBreakers } from './circuit-breakers.ts';
import {
  CIRCUIT_ARROWS,
  CIRCUIT_STATE_VALUE,
  type CircuitAdmission,
  type CircuitEvidence,
  type CircuitRejection,
  describeCause,
  describeRejection,
  isProbe,
} from './circuit-state.ts';
import { verdictForCircuit } from './verdict.ts';
import { VERDICTS, type Verdict } from './verdicts.ts';

const SETTINGS: CircuitBreakerSettings = {
  consecutiveFailures: 5,
  failurePercent: 50,
  minCalls: 20,
  windowMs: 10_000,
  recoveryTimeoutMs: 30_000,
  halfOpenMax: 3,
};
const { ok, unavailable, cancelled, first_message: firstMessage } = VERDICTS;

/** A circuit and a clock that the test moves. */
class Bench {
  readonly breaker: CircuitBreaker;
  nowMs = 1_000_000;

  constructor(settings: Partial<CircuitBreakerSettings> = {}, random = () => 0.5) {
    this.breaker = new CircuitBreaker({ ...SETTINGS, ...settings }, random);
  }

  wait(ms: number): void {
    this.nowMs += ms;
  }

  admit(): CircuitAdmission {
    const admission = this.breaker.admit(this.nowMs);
    if (typeof admission === 'number') return admission;
    throw new Error(describeRejection(admission));
  }

  rejection(): CircuitRejection {
    const rejection = this.breaker.admit(this.nowMs);
    if (typeof rejection !== 'number') return rejection;
    throw new Error('the call was let in');
  }

  /** Makes calls one after the other. */
  calls(count: number, verdict: Verdict, from?: CircuitEvidence): void {
    for (let i = 0; i < count; i++) this.breaker.settle(this.admit(), verdict, this.nowMs, from);
  }

  /** Makes a stream that sends a message and ends with this verdict. */
  stream(verdict: Verdict): void {
    const admission = this.admit();
    this.breaker.settle(admission, firstMessage, this.nowMs);
    const from = {
      endpoint: undefined,
      startedAtMs: this.nowMs,
      firstMessageAtMs: this.nowMs,
      unreachable: undefined,
      silent: false,
    };
    this.wait(100);
    this.breaker.amend(admission, verdict, this.nowMs, from);
  }

  open(): void {
    this.calls(SETTINGS.consecutiveFailures, unavailable);
    if (this.breaker.state !== 'open') throw new Error(`it is ${this.breaker.state}`);
  }
}

function from(endpoint: unknown, startedAtMs: number, firstMessageAtMs = 0): CircuitEvidence {
  return { endpoint, startedAtMs, firstMessageAtMs, unreachable: undefined, silent: false };
}

t.test(
  'a circuit opens after failures in a row, names the cause, and admits probes after its timeout',
  async (t) => {
    const bench = new Bench();
    const { breaker } = bench;
    bench.calls(4, unavailable);
    bench.calls(1, ok);
    bench.calls(4, unavailable);
    bench.calls(3, cancelled);
    t.equal(breaker.state, 'closed', 'a success ends a run, a neutral verdict does not');
    const transition = breaker.settle(bench.admit(), VERDICTS.reset, bench.nowMs);
    t.match(transition, { from: 'closed', to: 'open', atMs: bench.nowMs, openForMs: 30_000, openings: 1 });
    t.match(transition?.cause, { rule: 'consecutive_failures', failures: 5 });

    bench.wait(17_700);
    const rejection = bench.rejection();
    t.match(rejection, { state: 'open', retryAfterMs: 12_300 });
    t.equal(
      describeRejection(rejection),
      'the circuit is open: 5 calls in a row failed (4 × unavailable, reset); try again in 12.3 s',
    );
    t.equal(bench.rejection(), rejection, 'no object is made for each call that is turned away');
    t.equal(breaker.rejections, 2);

    t.equal(breaker.halfOpenAtMs, bench.nowMs + 12_300);
    bench.wait(12_299);
    t.equal(breaker.tick(bench.nowMs), undefined);
    bench.rejection();
    bench.wait(1);
    t.match(breaker.tick(bench.nowMs), { from: 'open', to: 'half_open', cause: undefined });
    const probes = [bench.admit(), bench.admit(), bench.admit()];
    t.ok(probes.every(isProbe));
    t.match(bench.rejection(), { state: 'half_open', retryAfterMs: 1000 });
    t.match(describeRejection(bench.rejection()), /half-open and its probes are out, since 5 calls in a row/);

    t.equal(breaker.settle(probes[0]!, ok, bench.nowMs), undefined);
    t.equal(breaker.settle(probes[1]!, ok, bench.nowMs), undefined);
    t.match(breaker.settle(probes[2]!, ok, bench.nowMs), { from: 'half_open', to: 'closed', openForMs: 0 });
    t.notOk(isProbe(bench.admit()));
    t.strictSame(CIRCUIT_STATE_VALUE, { closed: 0, half_open: 1, open: 2 });
  },
);

t.test('a circuit opens on the share of failures, even with thin traffic', async (t) => {
  for (const [intervalMs, spanMs] of [
    [10, 10_000],
    [1000, 20_000],
    [2500, 49_000],
  ] as const) {
    const bench = new Bench({ consecutiveFailures: 0 });
    // Three of five fail, but never five in a row.
    let calls = 0;
    while (bench.breaker.state === 'closed' && calls < 100) {
      bench.calls(1, calls % 5 < 3 ? unavailable : ok);
      bench.wait(intervalMs);
      calls++;
    }
    t.equal(calls, 21, `${intervalMs} ms apart: at the first failure with 20 calls in the window`);
    const { failures, calls: counted } = bench.breaker.cause!;
    t.ok(counted - failures === 8 && counted >= 20, `${failures} of ${counted} failed`);
    const { overMs } = bench.breaker.cause!;
    t.ok(overMs >= spanMs && overMs <= spanMs + 1000, `the window reached ${overMs} ms back`);
  }

  const bench = new Bench({ consecutiveFailures: 0 });
  bench.calls(19, unavailable);
  t.equal(bench.breaker.state, 'closed', 'not with fewer than min_calls');
  bench.wait(61_000);
  bench.calls(19, unavailable);
  t.equal(bench.breaker.state, 'closed', 'and not with those of more than six windows ago');
  bench.calls(1, unavailable);
  t.equal(describeCause(bench.breaker.cause!), '20 of 20 calls in 10 s failed (latest: 5 × unavailable)');

  const busy = new Bench({ consecutiveFailures: 0 });
  busy.calls(1000, ok);
  busy.wait(10_000);
  busy.calls(19, unavailable);
  t.equal(busy.breaker.state, 'closed');
  busy.calls(1, unavailable);
  t.equal(busy.breaker.state, 'open', 'the good times before the window do not hide the bad ones in it');
});

t.test('a circuit stays closed below the share', async (t) => {
  const bench = new Bench({ consecutiveFailures: 0 });
  for (let i = 0; i < 500; i++) {
    bench.calls(1, i % 5 < 2 ? unavailable : ok);
    bench.wait(200);
  }
  t.equal(bench.breaker.state, 'closed');
});

t.test('a cut stream counts as one failed call', async (t) => {
  const bench = new Bench();
  for (let i = 0; i < 4; i++) bench.stream(VERDICTS.no_status);
  t.equal(bench.breaker.state, 'closed');
  bench.stream(VERDICTS.no_status);
  t.match(bench.breaker.cause, { rule: 'consecutive_cuts', failures: 5 }, 'first messages do not hide cuts');
  t.match(describeCause(bench.breaker.cause!), /^5 streams in a row were cut \(5 × no_status\)/);

  const mixed = new Bench();
  for (let i = 0; i < 30; i++) mixed.stream(i % 5 === 4 ? ok : cancelled);
  for (let i = 0; i < 4; i++) mixed.stream(unavailable);
  mixed.stream(cancelled);
  mixed.stream(ok);
  for (let i = 0; i < 4; i++) mixed.stream(unavailable);
  t.equal(mixed.breaker.state, 'closed', 'one that ended well ends the run');

  // 60 % of the streams are cut. If each first message counted as a success, it would look like 38 %.
  const share = new Bench({ consecutiveFailures: 0, failurePercent: 60 });
  for (let i = 0; i < 19; i++) share.stream(i % 5 < 3 ? unavailable : ok);
  t.equal(share.breaker.state, 'closed');
  for (let i = 0; i < 5 && share.breaker.state === 'closed'; i++) share.stream(unavailable);
  t.match(share.breaker.cause, { rule: 'failure_percent' });

  const long = new Bench({ minCalls: 3, consecutiveFailures: 0, failurePercent: 60 });
  const streams = Array.from({ length: 5 }, () => long.admit());
  const startedAtMs = long.nowMs;
  for (const stream of streams) long.breaker.settle(stream, firstMessage, long.nowMs);
  long.wait(600_000);
  long.calls(3, ok);
  for (const stream of streams.slice(0, 2))
    long.breaker.amend(stream, unavailable, long.nowMs, from('a', startedAtMs, startedAtMs));
  t.equal(long.breaker.state, 'closed', 'what was counted ten minutes ago is not taken back from now');
});

t.test('one endpoint of several does not open the circuit of all', async (t) => {
  const run = new Bench({ failurePercent: 0 });
  run.breaker.endpoints = 2;
  run.calls(50, unavailable, from('a', run.nowMs));
  t.equal(run.breaker.state, 'closed', 'a run at one endpoint of two');
  run.calls(1, unavailable, from('b', run.nowMs));
  t.equal(run.breaker.state, 'open', 'until another one fails as well');

  const alone = new Bench();
  alone.breaker.endpoints = 2;
  alone.calls(4, unavailable, from('a', alone.nowMs));
  alone.breaker.endpoints = 1;
  alone.calls(1, unavailable, from('a', alone.nowMs));
  t.equal(alone.breaker.state, 'open', 'the only endpoint that is left');

  const unknown = new Bench();
  unknown.breaker.endpoints = 3;
  unknown.calls(5, unavailable);
  t.equal(unknown.breaker.state, 'open', 'calls that several endpoints have failed');
});

t.test('a crash counts as one failure, not one for each call that it cut', async (t) => {
  const { connection_lost: lost } = VERDICTS;
  const bench = new Bench();
  const startedAtMs = bench.nowMs;
  const admissions = Array.from({ length: 40 }, () => bench.admit());
  for (const admission of admissions.slice(20))
    bench.breaker.settle(admission, firstMessage, bench.nowMs, from('a', startedAtMs));
  bench.wait(5000);
  for (const admission of admissions.slice(0, 20))
    bench.breaker.settle(admission, lost, bench.nowMs, from('a', startedAtMs));
  for (const admission of admissions.slice(20))
    bench.breaker.amend(admission, lost, bench.nowMs, from('a', startedAtMs, startedAtMs));
  t.equal(bench.breaker.state, 'closed');

  bench.calls(4, lost, from('a', bench.nowMs + 1));
  t.equal(bench.breaker.state, 'open', 'calls that were begun after it count, each');

  const apart = new Bench();
  const early = Array.from({ length: 6 }, () => apart.admit());
  const began = apart.nowMs;
  for (const admission of early) {
    apart.wait(2000);
    apart.breaker.settle(admission, lost, apart.nowMs, from('a', began));
  }
  t.equal(apart.breaker.state, 'open', 'connections that are lost one after the other are no crash');

  const two = new Bench();
  two.breaker.endpoints = 4;
  for (const endpoint of ['a', 'b']) two.calls(25, lost, from(endpoint, two.nowMs - 1));
  t.equal(two.breaker.state, 'closed', 'two of four endpoints that crash at once are two failures');
});

t.test('a circuit drops verdicts on calls of an earlier generation', async (t) => {
  const bench = new Bench();
  const early = Array.from({ length: 20 }, () => bench.admit());
  const stream = bench.admit();
  bench.breaker.settle(stream, firstMessage, bench.nowMs);
  bench.open();
  const openUntil = bench.breaker.halfOpenAtMs;
  bench.breaker.settle(early[0]!, unavailable, bench.nowMs);
  bench.breaker.settle(early[1]!, ok, bench.nowMs);
  t.match(bench.breaker, { state: 'open', halfOpenAtMs: openUntil });
  bench.wait(30_000);
  const probe = bench.admit();
  for (const admission of early.slice(2, 6)) bench.breaker.settle(admission, ok, bench.nowMs);
  t.equal(bench.breaker.state, 'half_open', 'old successes do not close it');
  bench.breaker.settle(early[6]!, unavailable, bench.nowMs);
  bench.breaker.amend(stream, unavailable, bench.nowMs);
  t.equal(bench.breaker.state, 'half_open', 'old failures do not open it');
  bench.breaker.settle(probe, ok, bench.nowMs);
  const late = [bench.admit(), bench.admit(), bench.admit()];
  bench.breaker.settle(late[0]!, ok, bench.nowMs);
  t.match(bench.breaker.settle(late[1]!, ok, bench.nowMs), { to: 'closed' });
  for (const admission of early.slice(7)) bench.breaker.settle(admission, unavailable, bench.nowMs);
  bench.breaker.settle(late[2]!, unavailable, bench.nowMs);
  bench.breaker.amend(late[0]!, unavailable, bench.nowMs);
  t.equal(bench.breaker.state, 'closed');
  bench.calls(4, unavailable);
  t.equal(bench.breaker.state, 'closed', 'and none of them was counted');
  t.notOk(bench.breaker.mayRetry(early[8]!));
  t.ok(bench.breaker.mayRetry(bench.admit()));
});

t.test('a neutral probe gives its place back, and a failed or cut one opens the circuit again', async (t) => {
  const bench = new Bench({ halfOpenMax: 1 });
  bench.open();
  bench.wait(30_000);
  for (let i = 0; i < 10; i++) {
    const probe = bench.admit();
    t.notOk(bench.breaker.mayRetry(probe), 'three probes are not nine attempts');
    bench.rejection();
    t.equal(bench.breaker.settle(probe, i % 2 ? cancelled : VERDICTS.back_pressure, bench.nowMs), undefined);
  }
  const failed = bench.breaker.settle(bench.admit(), VERDICTS.connect_failed, bench.nowMs);
  t.match(failed, { from: 'half_open', to: 'open', openings: 2, cause: { rule: 'probe' } });
  t.equal(describeCause(failed!.cause!), 'a probe failed (connect_failed)');

  const streams = new Bench({ halfOpenMax: 2 });
  streams.open();
  streams.wait(30_000);
  const probe = streams.admit();
  streams.breaker.settle(probe, firstMessage, streams.nowMs);
  t.equal(streams.breaker.probesInFlight, 0, 'a first message is an answer');
  t.equal(streams.breaker.amend(probe, cancelled, streams.nowMs), undefined);
  t.match(streams.breaker.amend(probe, unavailable, streams.nowMs), { to: 'open' });
});

t.test('a probe without a verdict gives its place back, and its verdict counts when it comes', async (t) => {
  const bench = new Bench();
  bench.open();
  bench.wait(30_000);
  const first = [bench.admit(), bench.admit(), bench.admit()];
  bench.wait(29_999);
  bench.rejection();
  bench.wait(1);
  const second = [bench.admit(), bench.admit(), bench.admit()];
  bench.rejection();
  bench.wait(15_000);
  // A method that takes 45 s is healthy, too.
  for (const probe of first.slice(0, 2)) t.equal(bench.breaker.settle(probe, ok, bench.nowMs), undefined);
  t.equal(bench.breaker.settle(first[0]!, ok, bench.nowMs), undefined, 'but each counts once');
  t.match(bench.breaker.settle(first[2]!, ok, bench.nowMs), { to: 'closed' });
  t.equal(bench.breaker.settle(second[0]!, unavailable, bench.nowMs), undefined);

  const gone = new Bench({ halfOpenMax: 1 });
  gone.open();
  gone.wait(30_000);
  const oldest = gone.admit();
  for (let i = 0; i < 1001; i++) {
    gone.wait(30_000);
    gone.admit();
  }
  t.equal(gone.breaker.probesInFlight, 1);
  t.equal(gone.breaker.settle(oldest, ok, gone.nowMs), undefined, 'a thousand are remembered, not more');
});

t.test('each opening without a recovery lasts longer, up to a limit', async (t) => {
  const openings = (random: () => number, settings: Partial<CircuitBreakerSettings> = {}): number[] => {
    const bench = new Bench(settings, random);
    bench.open();
    const lasted: number[] = [];
    for (let i = 0; i < 7; i++) {
      lasted.push(Math.round(bench.breaker.halfOpenAtMs - bench.nowMs));
      bench.nowMs = bench.breaker.halfOpenAtMs;
      bench.calls(1, unavailable);
    }
    return lasted;
  };
  const middle = openings(() => 0.5);
  t.strictSame(middle, [30_000, 60_000, 120_000, 240_000, 300_000, 300_000, 300_000]);
  t.strictSame(
    openings(() => 0),
    [30_000, 48_000, 96_000, 192_000, 240_000, 240_000, 240_000],
  );
  t.equal(openings(() => 1 - 1e-9)[6], 360_000);
  t.strictSame(openings(() => 0.5, { recoveryTimeoutMs: 600_000 }).slice(0, 2), [600_000, 600_000]);

  const bench = new Bench();
  bench.open();
  const recover = (): void => {
    bench.nowMs = bench.breaker.halfOpenAtMs;
    bench.calls(3, ok);
  };
  recover();
  bench.wait(29_000);
  bench.open();
  t.equal(bench.breaker.halfOpenAtMs - bench.nowMs, 60_000, 'soon after it closed: it had not recovered');
  recover();
  bench.wait(61_000);
  bench.open();
  t.equal(bench.breaker.halfOpenAtMs - bench.nowMs, 30_000, 'closed for longer than it had been open');
});

t.test('a circuit that has closed begins anew', async (t) => {
  const settings = { consecutiveFailures: 5, recoveryTimeoutMs: 1000, minCalls: 10 };
  const bench = new Bench(settings);
  for (let i = 0; i < 4; i++) bench.stream(VERDICTS.no_status);
  bench.calls(5, VERDICTS.reset);
  bench.nowMs = bench.breaker.halfOpenAtMs;
  bench.calls(2, ok);
  bench.calls(1, unavailable);
  bench.nowMs = bench.breaker.halfOpenAtMs;
  bench.calls(2, ok);
  t.equal(bench.breaker.state, 'half_open', 'successes before a probe failed do not count');
  bench.calls(1, ok);
  t.equal(bench.breaker.state, 'closed');
  bench.stream(VERDICTS.no_status);
  bench.calls(4, unavailable);
  t.equal(bench.breaker.state, 'closed', 'runs and shares begin anew');
  bench.calls(1, unavailable);
  t.match(bench.breaker.cause!.reasons, ['unavailable', 'unavailable', 'unavailable', 'unavailable']);

  const half = new Bench({ consecutiveFailures: 0, minCalls: 4 });
  for (let i = 0; i < 2; i++) {
    half.calls(1, ok);
    half.calls(1, unavailable);
  }
  t.equal(half.breaker.state, 'open', 'half is not below half');
  half.nowMs = half.breaker.halfOpenAtMs;
  half.calls(1, VERDICTS.reset);
  half.nowMs = half.breaker.halfOpenAtMs;
  half.calls(3, ok);
  for (let i = 0; i < 2; i++) {
    half.calls(1, ok);
    half.calls(1, VERDICTS.internal);
  }
  t.strictSame(half.breaker.cause!.reasons, ['internal', 'internal']);
});

t.test('settings can change at any time', async (t) => {
  const bench = new Bench();
  const { breaker } = bench;
  bench.calls(3, unavailable);
  t.equal(breaker.update({ ...SETTINGS, consecutiveFailures: 4 }, bench.nowMs), undefined);
  bench.calls(1, unavailable);
  t.equal(breaker.state, 'open');
  const { halfOpenAtMs } = breaker;
  breaker.update({ ...SETTINGS, recoveryTimeoutMs: 1, windowMs: 1000 }, bench.nowMs);
  t.equal(breaker.halfOpenAtMs, halfOpenAtMs);
  bench.wait(30_000);
  bench.calls(1, ok);
  t.equal(breaker.update({ ...SETTINGS, halfOpenMax: 2 }, bench.nowMs), undefined);
  t.match(breaker.update({ ...SETTINGS, halfOpenMax: 1 }, bench.nowMs), { from: 'half_open', to: 'closed' });
  bench.open();
  const off = { ...SETTINGS, consecutiveFailures: 0, failurePercent: 0 };
  t.match(breaker.update(off, bench.nowMs), { from: 'open', to: 'closed' });
  bench.calls(1000, unavailable);
  t.equal(breaker.state, 'closed', 'with both rules off it never opens');
  t.throws(() => breaker.update({ ...SETTINGS, windowMs: 0 }, bench.nowMs), /the window is 0 ms long/);
});

t.test('each method of a cluster has a circuit, up to a number of methods', async (t) => {
  const breakers = new CircuitBreakers(SETTINGS, () => 0.5);
  const one = breakers.of('/agent.AgentService/ProcessTask');
  t.equal(breakers.of('/agent.AgentService/ProcessTask'), one);
  t.not(breakers.of('/agent.AgentService/StreamProcess'), one);
  for (let i = 0; i < 10_000; i++) breakers.of(`/made.Up/Method${i}`);
  t.equal([...breakers.entries()].length, 257);
  t.equal(breakers.of('/made.Up/Another'), breakers.of(''), 'the rest share one');
  breakers.endpoints = 3;
  t.equal(one.endpoints, 3);
  for (let i = 0; i < 5; i++) one.settle(one.admit(0) as number, unavailable, 0);
  const closed: string[] = [];
  const off = { ...SETTINGS, consecutiveFailures: 0, failurePercent: 0 };
  breakers.update(off, 0, (method, { to }) => closed.push(`${method} ${to}`));
  const another = new CircuitBreakers(SETTINGS, () => 0.5);
  another.endpoints = 2;
  another.update(off, 0, () => t.fail('nothing was open'));
  const later = another.of('/agent.AgentService/ProcessTask');
  t.equal(later.endpoints, 2);
  for (let i = 0; i < 50; i++) later.settle(later.admit(0) as number, unavailable, 0);
  t.equal(later.state, 'closed', 'circuits that are made later have the new settings');
  t.strictSame(closed, ['/agent.AgentService/ProcessTask closed']);
});

// --- A model ------------------------------------------------------------------------------------------------

const settingsArbitrary = fc.record({
  consecutiveFailures: fc.constantFrom(0, 1, 2, 5),
  failurePercent: fc.constantFrom(0, 10, 50, 100),
  minCalls: fc.constantFrom(1, 3, 20),
  windowMs: fc.constantFrom(100, 10_000),
  recoveryTimeoutMs: fc.constantFrom(1, 1000, 30_000),
  halfOpenMax: fc.integer({ min: 1, max: 4 }),
});

const verdictArbitrary = fc.constantFrom(
  ok,
  ok,
  unavailable,
  unavailable,
  cancelled,
  VERDICTS.connection_lost,
);

type Step =
  | { do: 'call' }
  | { do: 'settle'; which: number; verdict: Verdict }
  | { do: 'stream'; which: number; verdict: Verdict }
  | { do: 'wait'; ms: number }
  | { do: 'endpoints'; count: number };

const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('call' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('settle' as const), which: fc.nat(), verdict: verdictArbitrary }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('stream' as const), which: fc.nat(), verdict: verdictArbitrary }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      ms: fc.oneof(fc.nat(50), fc.nat(3000), fc.nat(400_000)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('endpoints' as const), count: fc.integer({ min: 0, max: 3 }) }),
  },
);

interface ModelCall {
  readonly admission: CircuitAdmission;
  readonly startedAtMs: number;
  readonly endpoint: string;
  /** How often the state had changed when the call was admitted. */
  readonly generation: number;
  firstMessageAtMs: number;
}

/** Runs the steps against a circuit and throws when an invariant is broken. */
class Model {
  readonly settings: CircuitBreakerSettings;
  readonly breaker: CircuitBreaker;
  nowMs = 5000;
  generation = 0;
  /** Calls that are not settled yet, and streams that are. */
  calls: ModelCall[] = [];
  streams: ModelCall[] = [];

  constructor(settings: CircuitBreakerSettings, random: () => number) {
    this.settings = settings;
    this.breaker = new CircuitBreaker(settings, random);
  }

  step(step: Step): void {
    switch (step.do) {
      case 'call':
        this.call();
        return;
      case 'settle': {
        const call = this.take(this.calls, step.which);
        if (call !== undefined) this.verdict(call, step.verdict, false);
        return;
      }
      case 'stream': {
        const stream = this.take(this.streams, step.which);
        if (stream !== undefined) {
          this.verdict(stream, step.verdict, true);
          return;
        }
        const call = this.take(this.calls, step.which);
        if (call === undefined) return;
        call.firstMessageAtMs = this.nowMs;
        this.verdict(call, firstMessage, false);
        this.streams.push(call);
        return;
      }
      case 'wait':
        this.nowMs += step.ms;
        return;
      case 'endpoints':
        this.breaker.endpoints = step.count;
        return;
    }
  }

  call(): void {
    const { breaker } = this;
    const { state, halfOpenAtMs } = breaker;
    const admitted = breaker.admit(this.nowMs);
    if (breaker.state !== state) {
      this.generation++;
      must(state === 'open' && breaker.state === 'half_open', 'time alone only half-opens');
      must(this.nowMs >= halfOpenAtMs, 'and not before its time');
    }
    must(
      state !== 'open' || breaker.state === 'half_open' || this.nowMs < halfOpenAtMs,
      'it half-opens in time',
    );
    must(breaker.probesInFlight <= this.settings.halfOpenMax, 'never more probes than half_open_max');
    if (typeof admitted === 'number') {
      must(state !== 'closed' || !isProbe(admitted), 'a closed circuit knows no probes');
      must(breaker.state !== 'half_open' || isProbe(admitted), 'a half-open one admits nothing else');
      must(breaker.state !== 'open', 'an open one admits nothing');
      this.calls.push({
        admission: admitted,
        startedAtMs: this.nowMs,
        endpoint: this.calls.length % 2 ? 'a' : 'b',
        generation: this.generation,
        firstMessageAtMs: 0,
      });
    } else {
      must(admitted.retryAfterMs > 0, 'a caller that is turned away is told when to come again');
      must(admitted.cause.reasons.length > 0, 'and why');
      must(admitted.state === breaker.state, 'of the state that turned it away');
      if (breaker.state === 'half_open')
        must(breaker.probesInFlight === this.settings.halfOpenMax, 'only when all places are taken');
    }
  }

  verdict(call: ModelCall, verdict: Verdict, second: boolean): void {
    const { breaker } = this;
    const { state, halfOpenAtMs, probesInFlight } = breaker;
    const evidence = from(call.endpoint, call.startedAtMs, call.firstMessageAtMs);
    const transition = second
      ? breaker.amend(call.admission, verdict, this.nowMs, evidence)
      : breaker.settle(call.admission, verdict, this.nowMs, evidence);
    must(
      (transition !== undefined) === (breaker.state !== state),
      'a change of state is told, and only that',
    );
    if (call.generation !== this.generation) {
      must(transition === undefined, 'a late verdict moves nothing');
      must(
        breaker.halfOpenAtMs === halfOpenAtMs && breaker.probesInFlight === probesInFlight,
        'nor anything else',
      );
    }
    if (transition === undefined) {
      const fails =
        verdict.outcome === 'failure' && isProbe(call.admission) && call.generation === this.generation;
      must(!fails, 'a probe that fails opens it again');
      return;
    }
    this.generation++;
    must(verdict.outcome !== 'neutral', 'a neutral verdict moves nothing');
    must(
      transition.to === (verdict.outcome === 'failure' ? 'open' : 'closed'),
      'failures open, successes close',
    );
    if (transition.to !== 'open') return;
    const cap = Math.max(this.settings.recoveryTimeoutMs, 300_000) * 1.2;
    must(
      transition.openForMs >= Math.min(this.settings.recoveryTimeoutMs, cap),
      'no shorter than the settings say',
    );
    must(transition.openForMs <= cap, 'no longer than the limit');
  }

  private take(from: ModelCall[], which: number): ModelCall | undefined {
    return from.length === 0 ? undefined : from.splice(which % from.length, 1)[0];
  }
}

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`broken: ${what}`);
}

t.test('a circuit keeps its promises in every order of events', async (t) => {
  const states = new Map<string, number>();
  const property = fc.property(
    settingsArbitrary,
    fc.array(stepArbitrary, { minLength: 50, maxLength: 300 }),
    fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
    (settings, steps, random) => {
      const model = new Model(settings, () => random);
      for (const step of steps) {
        model.step(step);
        states.set(model.breaker.state, (states.get(model.breaker.state) ?? 0) + 1);
      }
      // Now the cluster is healthy. Calls in flight never end; a call is made every 100 ms and answered.
      model.calls = [];
      const untilMs = model.nowMs + 360_000 + 2 * settings.recoveryTimeoutMs + 1000;
      while (model.nowMs < untilMs && model.breaker.state !== 'closed') {
        model.call();
        for (const call of model.calls.splice(0)) model.verdict(call, ok, false);
        model.nowMs += 100;
      }
      must(model.breaker.state === 'closed', 'it closes again when the cluster is well');
    },
  );
  t.doesNotThrow(() => fc.assert(property, { numRuns: 1000 }));
  for (const state of ['closed', 'half_open', 'open'])
    t.ok(states.get(state)! > 1000, `${state}: after ${states.get(state)} steps`);
});

t.test('a silent endpoint beside one that answers does not open the circuit', async (t) => {
  // 100 calls a second to two endpoints, one of which falls silent: its calls in flight time out between the answers of
  // the other. It is ejected after three time-outs, unless the limit of ejections is reached.
  const opens = (random: () => number, endpoints: number, ejects: boolean): boolean => {
    const bench = new Bench();
    bench.breaker.endpoints = endpoints;
    for (let i = 0; i < 100; i++) {
      bench.calls(1, ok);
      bench.wait(10);
    }
    const inFlight = Array.from({ length: 100 }, (_, i) => {
      const startedAtMs = bench.nowMs + i * 10;
      const silent = random() < 0.5;
      const atMs = startedAtMs + 1000 + (silent ? 0 : 5 * random());
      return { atMs, silent, startedAtMs, admission: bench.admit() };
    });
    inFlight.sort((a, b) => a.atMs - b.atMs);
    let timeouts = 0;
    let ejectedAtMs = 0;
    for (const { atMs, silent, startedAtMs, admission } of inFlight) {
      if (silent && ++timeouts === 3 && ejects) ejectedAtMs = atMs;
      const verdict = silent ? verdictForCircuit(VERDICTS.timeout, startedAtMs, ejectedAtMs) : ok;
      bench.breaker.settle(admission, verdict, atMs, from(silent ? 'silent' : 'well', startedAtMs));
    }
    return bench.breaker.state === 'open';
  };
  let seed = 1;
  const random = (): number => {
    seed = (seed * 48271) % 2147483647;
    return seed / 2147483647;
  };
  const share = (endpoints: number, ejects: boolean): number => {
    let opened = 0;
    for (let i = 0; i < 200; i++) if (opens(random, endpoints, ejects)) opened++;
    return opened / 200;
  };
  t.ok(share(1, false) > 0.7, 'a rule that knows no endpoints opens nearly always');
  t.equal(share(2, false), 0, 'one that asks for two of them does not');
  t.equal(share(2, true), 0);
  t.equal(share(1, true), 0, 'nor does one that is told of the ejection');
});

t.test('a circuit takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    CIRCUIT_ARROWS,
    `closed → open
     open → half_open, closed
     half_open → closed, open`,
  );
});
