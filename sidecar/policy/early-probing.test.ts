// Circuits that opened because no endpoint was reachable, and end when one is.

import t from 'tap';
import fc from '../../scripts/harness/properties.ts';
import { CircuitBreaker } from './circuit-breaker.ts';
import type { CircuitBreakerSettings } from './circuit-breaker-settings.ts';
import { type CircuitEvidence, type CircuitRejection, describeRejection, isProbe } from './circuit-state.ts';
import { foundNobody, isSilence } from './reach.ts';
import { VERDICTS, type Verdict } from './verdicts.ts';

const SETTINGS: CircuitBreakerSettings = {
  consecutiveFailures: 5,
  failurePercent: 0,
  minCalls: 20,
  windowMs: 10_000,
  recoveryTimeoutMs: 30_000,
  halfOpenMax: 3,
};
const { ok, cancelled, unavailable, timeout } = VERDICTS;
const { connect_failed: refused, connection_lost: lost, app_unreachable: noApp } = VERDICTS;

const evidence = (verdict: Verdict, connected: boolean): CircuitEvidence => ({
  endpoint: 'one',
  startedAtMs: Number.POSITIVE_INFINITY,
  firstMessageAtMs: 0,
  unreachable: foundNobody(verdict, connected),
  silent: connected && isSilence(verdict, ''),
});

/** A circuit and a clock that the test moves. */
class Bench {
  readonly breaker = new CircuitBreaker(SETTINGS, () => 0.5);
  nowMs = 1_000_000;

  call(verdict: Verdict, connected = true): string {
    const { breaker, nowMs } = this;
    const admission = breaker.admit(nowMs);
    if (typeof admission !== 'number') return 'rejected';
    breaker.settle(admission, verdict, nowMs, evidence(verdict, connected));
    return isProbe(admission) ? 'probe' : 'call';
  }

  open(...verdicts: Verdict[]): this {
    for (const verdict of verdicts) this.call(verdict);
    if (this.breaker.state !== 'open') throw new Error(`it is ${this.breaker.state}`);
    return this;
  }

  wait(ms: number): this {
    this.nowMs += ms;
    return this;
  }

  back() {
    return this.breaker.endpointBack(this.nowMs);
  }
}

const times = (count: number, verdict: Verdict): Verdict[] => Array.from({ length: count }, () => verdict);

t.test(
  'the return of an endpoint ends the wait of a circuit that opened because none was there',
  async (t) => {
    for (const [what, verdicts] of [
      ['refused connections', times(5, refused)],
      ['an app that is away from its sidecar', times(5, noApp)],
      ['lost connections, then none', [lost, refused, refused, refused, refused]],
      [
        'an app that failed and then went away',
        [unavailable, unavailable, unavailable, unavailable, refused],
      ],
      ['a reset, which may be either', [refused, refused, refused, refused, VERDICTS.reset]],
    ] as const) {
      const bench = new Bench().open(...verdicts);
      t.ok(bench.breaker.awaitsEndpoint(bench.nowMs), what);
      bench.wait(1_500);
      const rejection = bench.breaker.admit(bench.nowMs) as CircuitRejection;
      t.match(rejection, { state: 'open', unreachable: true, retryAfterMs: 1_000 });
      t.match(
        describeRejection(rejection),
        /^the circuit is open until an endpoint can be reached: .* in 1 s$/,
      );
      t.match(bench.back(), { from: 'open', to: 'half_open', unreachable: true });
      t.same([bench.call(ok), bench.call(ok), bench.call(ok)], ['probe', 'probe', 'probe']);
      t.equal(bench.breaker.state, 'closed');
      t.equal(bench.call(ok), 'call');
      t.equal(bench.back(), undefined, 'what is closed has nothing to wait for');
    }
  },
);

t.test(
  'an answer that opened a circuit keeps it open: a new connection does not repair errors',
  async (t) => {
    for (const [what, verdicts] of [
      ['errors', times(5, unavailable)],
      ['refused connections, and then an error', [refused, refused, refused, refused, unavailable]],
      ['tasks that failed', times(5, VERDICTS.task_failed)],
      ['silence on a connection', times(5, timeout)],
      ['streams that end without a status', times(5, VERDICTS.no_status)],
    ] as const) {
      const bench = new Bench().open(...verdicts);
      t.notOk(bench.breaker.awaitsEndpoint(bench.nowMs), what);
      bench.wait(29_999);
      t.equal(bench.back(), undefined);
      t.equal(bench.call(ok), 'rejected');
      bench.wait(1);
      t.match(bench.breaker.tick(bench.nowMs), { to: 'half_open', unreachable: false });
    }
    const bench = new Bench();
    for (let call = 0; call < 5; call++) bench.call(timeout, false);
    t.ok(
      bench.breaker.awaitsEndpoint(bench.nowMs),
      'time that ran out before there was a connection is no answer',
    );
    const mended = new Bench();
    mended.open(...times(4, refused), ok, ...times(5, VERDICTS.reset));
    t.notOk(mended.breaker.awaitsEndpoint(mended.nowMs), 'a success in between has ended the absence');
  },
);

t.test('failed early probes do not extend the opening, and delay the next ones more each time', async (t) => {
  const bench = new Bench().open(...times(5, refused));
  const dueAtMs = bench.nowMs + 30_000;
  const probedAtMs: number[] = [];
  // An agent that is back at once, and crashes at each call.
  while (bench.nowMs < dueAtMs - 1) {
    bench.back();
    if (bench.call(lost) === 'probe') {
      probedAtMs.push(bench.nowMs - (dueAtMs - 30_000));
      t.equal(bench.breaker.state, 'open');
    }
    bench.wait(1);
  }
  t.same(probedAtMs, [0, 1_000, 3_000, 7_000, 15_000]);
  t.equal(bench.breaker.halfOpenAtMs, dueAtMs, 'as it would have been without them');
  bench.wait(1);
  const transition = bench.breaker.tick(bench.nowMs);
  t.match(transition, { to: 'half_open', unreachable: false, openings: 1 });
  const admission = bench.breaker.admit(bench.nowMs) as number;
  t.match(bench.breaker.settle(admission, refused, bench.nowMs, evidence(refused, true)), {
    to: 'open',
    openings: 2,
    openForMs: 60_000,
    unreachable: true,
  });

  const erring = new Bench().open(...times(5, refused));
  erring.back();
  t.equal(erring.call(unavailable), 'probe');
  erring.wait(10_000);
  t.equal(erring.back(), undefined, 'it was reached, and answered an error');
  t.equal(erring.breaker.halfOpenAtMs - erring.nowMs, 20_000);
});

t.test(
  'an endpoint that comes back too soon after a failed probe is probed when the wait is over',
  async (t) => {
    const bench = new Bench().open(...times(5, refused));
    bench.back();
    t.equal(bench.call(refused), 'probe');
    bench.wait(400);
    t.equal(bench.back(), undefined);
    const rejection = bench.breaker.admit(bench.nowMs);
    t.match(rejection, { state: 'open', retryAfterMs: 600 }, 'and callers hear when');
    bench.wait(600);
    t.equal(bench.call(ok), 'probe');
  },
);

t.test('an endpoint that came back gets more probes with time, for slow answers', async (t) => {
  const bench = new Bench().open(...times(5, refused));
  bench.back();
  const admitted = (): number => {
    let count = 0;
    while (typeof bench.breaker.admit(bench.nowMs) === 'number') count++;
    return count;
  };
  t.same(
    [0, 500, 500, 1_000, 1_000].map((ms) => {
      bench.wait(ms);
      return admitted();
    }),
    [3, 0, 3, 6, 12],
  );
  bench.wait(20_000);
  t.equal(admitted(), 3 * 2 ** 10 - 24, 'up to a bound');

  const timed = new Bench().open(...times(5, refused));
  timed.wait(30_000);
  const probes = Array.from({ length: 4 }, () => timed.breaker.admit(timed.nowMs));
  t.equal(probes.filter((probe) => typeof probe === 'number').length, 3);
  timed.wait(5_000);
  t.equal(timed.call(ok), 'rejected', 'one whose time was over has shown nothing');
});

t.test('repeated short outages do not extend a later one', async (t) => {
  const bench = new Bench();
  for (let outage = 0; outage < 10; outage++) {
    bench.open(...times(5, refused));
    bench.wait(1_500);
    bench.back();
    for (let probe = 0; probe < 3; probe++) bench.call(ok);
    t.equal(bench.breaker.state, 'closed');
    bench.wait(11_000);
  }
  bench.open(...times(5, unavailable));
  t.equal(bench.breaker.halfOpenAtMs - bench.nowMs, 30_000);
});

t.test('silence counts as absence once no sign of life comes', async (t) => {
  const found = new Bench().open(...times(5, timeout));
  t.equal(found.breaker.awaitsEndpoint(found.nowMs), false, 'it may be there and hang');
  t.equal(found.back(), undefined, 'such a one has shown nothing by being there');
  found.breaker.endpointAbsent();
  t.equal(found.breaker.awaitsEndpoint(found.nowMs), true);
  t.match(found.wait(1_500).back(), { to: 'half_open', unreachable: true });
  t.equal(found.call(timeout), 'probe');
  t.equal(found.breaker.awaitsEndpoint(found.nowMs), false, 'the next silence is asked about anew');

  for (const last of [unavailable, ok]) {
    const spoke = new Bench();
    for (const verdict of [...times(4, timeout), last]) spoke.call(verdict);
    spoke.breaker.endpointAbsent();
    for (const verdict of times(5, unavailable)) spoke.call(verdict);
    t.equal(spoke.breaker.state, 'open');
    t.equal(
      spoke.breaker.awaitsEndpoint(spoke.nowMs),
      false,
      `the latest failure counts, behind ${last.reason}`,
    );
  }
});

t.test('answers of replaced endpoints do not keep a circuit open', async (t) => {
  const bench = new Bench().open(...times(5, unavailable));
  const openedAtMs = bench.nowMs;
  bench.wait(5_000);
  t.equal(bench.breaker.endpointsSince(openedAtMs - 1, bench.nowMs), undefined, 'one is still the same');
  t.match(bench.breaker.endpointsSince(openedAtMs + 4_000, bench.nowMs), { to: 'half_open' });
  for (let probe = 0; probe < 3; probe++) bench.call(ok);
  t.equal(bench.breaker.state, 'closed');
});

t.test('an open circuit ends within the longest time in any sequence of events', async () => {
  const outcomes = [ok, cancelled, refused, lost, unavailable, timeout];
  const event = fc.oneof(
    fc.integer({ min: 1, max: 20_000 }).map((ms) => (bench: Bench) => void bench.wait(ms)),
    fc.constant((bench: Bench) => void bench.back()),
    fc.constantFrom(...outcomes).map((verdict) => (bench: Bench) => void bench.call(verdict)),
  );
  fc.assert(
    fc.property(fc.array(event, { maxLength: 200 }), (events) => {
      const bench = new Bench();
      for (const happens of events) {
        happens(bench);
        const { breaker, nowMs } = bench;
        if (breaker.state === 'open' && !(breaker.halfOpenAtMs <= nowMs + 300_000))
          throw new Error(`it stays open until ${breaker.halfOpenAtMs}`);
      }
      bench.wait(300_000).breaker.tick(bench.nowMs);
      if (bench.breaker.state === 'open') throw new Error('it is still open');
    }),
    { numRuns: 300 },
  );
});
