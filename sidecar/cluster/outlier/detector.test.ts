// The outlier detector: ejection, probation, latency, cooldown and health checks.

import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { DEFAULTS } from '../../../test/support/outlier-simulation.ts';
import {
  type AttemptOutcome,
  fallbackRank,
  OutlierDetector,
  reportOf,
  WatchedAttempt,
  type WatchedEndpoint,
} from './detector.ts';
import type { OutlierSettings } from './outlier-settings.ts';

const METHOD = '/agent.AgentService/ProcessTask';

function detectorWith(count: number, settings: Partial<OutlierSettings> = {}) {
  const detector = new OutlierDetector({ ...DEFAULTS, ...settings });
  const endpoints = Array.from({ length: count }, (_, i) => detector.add(`10.0.0.${i}:50051`));
  return { detector, endpoints };
}

function begun(detector: OutlierDetector, watched: WatchedEndpoint, nowMs: number): WatchedAttempt {
  const attempt = new WatchedAttempt(watched);
  detector.begin(attempt, nowMs);
  detector.awaitAnswer(attempt, METHOD, nowMs);
  return attempt;
}

/** A unary call that takes no time. */
function call(detector: OutlierDetector, watched: WatchedEndpoint, outcome: AttemptOutcome, nowMs: number) {
  const attempt = begun(detector, watched, nowMs);
  if (outcome === 'success') detector.answered(attempt, METHOD, nowMs);
  return detector.end(attempt, outcome, nowMs);
}

function fail(detector: OutlierDetector, watched: WatchedEndpoint, times: number, nowMs: number) {
  let event: ReturnType<typeof call>;
  for (let i = 0; i < times; i++) event = call(detector, watched, 'failure', nowMs);
  return event;
}

t.test('three failures in a row eject; neutral ends neither count nor interrupt', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const [bad, good] = endpoints as [WatchedEndpoint, WatchedEndpoint];
  for (let i = 0; i < 20; i++) for (const endpoint of endpoints) call(detector, endpoint, 'success', 0);
  call(detector, good, 'success', 1);
  fail(detector, bad, 2, 10);
  call(detector, bad, 'success', 11);
  t.equal(fail(detector, bad, 2, 12), undefined, 'a success in between begins the count anew');
  for (let i = 0; i < 5; i++) call(detector, bad, 'neutral', 13);
  const event = call(detector, bad, 'failure', 14);
  t.match(event, { kind: 'ejected', endpoint: bad, reason: 'consecutive_failures', forMs: 30_000 });
  t.equal(event!.message, '10.0.0.0:50051 is ejected for 30 s: 3 failures in a row');
  t.match(
    { admits: bad.admits, other: good.admits, ejected: detector.ejected },
    { admits: false, other: true },
  );
  t.match(reportOf(bad, 10_014), { state: 'ejected', because: '3 failures in a row', leftMs: 20_000 });

  const off = detectorWith(2, { consecutiveFailures: 0 });
  for (let i = 0; i < 3; i++) t.equal(call(off.detector, off.endpoints[0]!, 'failure', i), undefined);
});

t.test('the detector never ejects the last endpoint, and never more than half', async (t) => {
  for (const [count, most] of [
    [1, 0],
    [2, 1],
    [3, 1],
    [4, 2],
    [5, 2],
    [9, 4],
  ] as const) {
    const { detector, endpoints } = detectorWith(count);
    endpoints.forEach((endpoint, i) => void fail(detector, endpoint, 4, i));
    t.equal(detector.ejected, most, `${count} endpoints`);
    t.equal(detector.overflows, (count - most) * 2, 'what there was no room for is counted');
  }
  const all = detectorWith(3, { maxEjectionPercent: 100 });
  all.endpoints.forEach((endpoint, i) => void fail(all.detector, endpoint, 3, i));
  t.equal(all.detector.ejected, 2);
  const none = detectorWith(3, { maxEjectionPercent: 0 });
  t.equal(fail(none.detector, none.endpoints[0]!, 50, 1), undefined);
});

t.test('each ejection is longer, and time in service shortens the next', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const bad = endpoints[0]!;
  let nowMs = 0;
  const lengths: number[] = [];
  for (let i = 0; i < 12; i++) {
    const event = fail(detector, bad, bad.state === 'probation' ? 1 : 3, nowMs)!;
    lengths.push(event.forMs / 1000);
    t.equal(detector.nextAtMs(nowMs), nowMs + event.forMs);
    t.strictSame(detector.tick(nowMs + event.forMs - 1), []);
    nowMs += event.forMs;
    t.match(detector.tick(nowMs), [{ kind: 'returned', endpoint: bad }], 'to the millisecond');
  }
  t.strictSame(lengths, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);

  for (let i = 0; i < 2; i++) t.equal(call(detector, bad, 'success', nowMs), undefined);
  t.match(call(detector, bad, 'success', nowMs), { kind: 'recovered' });
  nowMs += 10 * 30_000 + 1;
  t.equal(fail(detector, bad, 3, nowMs)!.forMs, 90_000, 'ten of twelve are forgotten after ten intervals');
  detector.tick(nowMs + 90_000);
  for (let i = 0; i < 3; i++) call(detector, bad, 'success', nowMs + 90_000);
  t.equal(fail(detector, bad, 3, nowMs + 90_000 + 3_600_000)!.forMs, 30_000);
});

t.test('probation admits one probe at a time, then two, then four, and ends with a failure', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const bad = endpoints[0]!;
  for (const endpoint of endpoints) call(detector, endpoint, 'success', 0);
  const changes: boolean[] = [];
  bad.onAdmitsChange = () => changes.push(bad.admits);
  const old = begun(detector, bad, 0);
  fail(detector, bad, 3, 0);
  const panicked = begun(detector, bad, 1);
  detector.tick(30_000);
  t.strictSame([bad.state, bad.admits], ['probation', true]);
  t.match(reportOf(bad, 30_000), { state: 'probation', because: 'was ejected: 3 failures in a row' });
  t.equal(detector.end(old, 'failure', 30_000), undefined, 'begun before the ejection');
  t.equal(detector.end(panicked, 'failure', 30_000), undefined, 'begun during the ejection');
  t.equal(bad.state, 'probation');

  const probe = begun(detector, bad, 30_001);
  t.notOk(bad.admits);
  detector.end(probe, 'neutral', 30_002);
  t.ok(bad.admits, 'a probe whose caller left makes room for another');
  const first = begun(detector, bad, 30_003);
  detector.answered(first, METHOD, 30_004);
  const pair = [begun(detector, bad, 30_005), begun(detector, bad, 30_005)];
  t.notOk(bad.admits);
  for (const attempt of pair) detector.answered(attempt, METHOD, 30_006);
  for (let i = 0; i < 10; i++) begun(detector, bad, 30_200);
  t.ok(bad.admits, 'after three answers any number');
  t.equal(bad.state, 'probation', 'none of these streams has ended yet');
  t.equal(detector.nextAtMs(30_200), 30_200 + 250, 'those who wait are looked at');

  t.match(detector.end(first, 'failure', 30_208), {
    kind: 'ejected',
    reason: 'consecutive_failures',
    forMs: 60_000,
  });
  t.strictSame(changes, [false, true, false, true, false, true, false, true, false]);

  detector.tick(90_208);
  for (let i = 0; i < 3; i++) detector.answered(begun(detector, bad, 90_209), METHOD, 90_209);
  t.strictSame(detector.tick(120_207), []);
  t.match(detector.tick(120_208), [{ kind: 'recovered' }], 'an interval of streams that go on will do');
});

t.test('the detector finds streams that answer and then fail, alone and many at a time', async (t) => {
  for (const atATime of [1, 2, 5, 20]) {
    const { detector, endpoints } = detectorWith(2);
    const bad = endpoints[0]!;
    const open: WatchedAttempt[] = [];
    let begunStreams = 0;
    for (let step = 0; step < 200 && !bad.ejected; step++) {
      const attempt = begun(detector, bad, step * 1000);
      begunStreams++;
      detector.answered(attempt, METHOD, step * 1000);
      open.push(attempt);
      if (open.length === atATime) detector.end(open.shift()!, 'failure', step * 1000 + 500);
    }
    t.ok(bad.ejected);
    t.ok(begunStreams <= atATime + 3, `${begunStreams} streams, ${atATime} at a time`);
  }
});

t.test('streams that answered and then fail count as failures of the run', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const bad = endpoints[0]!;
  call(detector, bad, 'failure', 0);
  const streams = Array.from({ length: 10 }, (_, i) => begun(detector, bad, i));
  for (const attempt of streams) detector.answered(attempt, METHOD, 20);
  let failed = 0;
  while (!bad.ejected && failed < 10) detector.end(streams[failed++]!, 'failure', 100 + failed);
  t.equal(failed, 5, 'six failures, five that may still end well');
});

t.test('running streams that have answered count against a run of failures', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const busy = endpoints[0]!;
  const streams: WatchedAttempt[] = [];
  for (let i = 0; i < 100; i++) {
    const attempt = begun(detector, busy, i * 1000);
    if (i % 20 === 19) t.equal(detector.end(attempt, 'failure', i * 1000), undefined);
    else {
      detector.answered(attempt, METHOD, i * 1000);
      streams.push(attempt);
    }
  }
  t.equal(busy.consecutive, 5, 'no stream has ended yet');
  detector.end(streams[0]!, 'success', 100_000);
  t.equal(busy.consecutive, 0);
});

t.test('failures that all endpoints share eject none of them', async (t) => {
  const { detector, endpoints } = detectorWith(3);
  for (let i = 0; i < 20; i++) for (const endpoint of endpoints) call(detector, endpoint, 'success', i * 500);
  // A provider's outage: the first endpoint with three failures in a row may be ejected before its peers fail.
  for (let i = 20; i < 600; i++)
    for (const endpoint of endpoints) call(detector, endpoint, 'failure', i * 500);
  t.ok(detector.ejected <= 1, `${detector.ejected} ejected`);
  t.equal(detector.overflows, 0, 'nor would there be more, had there been room');

  const late = detectorWith(3);
  for (let i = 0; i < 100; i++)
    for (const endpoint of late.endpoints)
      call(late.detector, endpoint, i % 10 < 6 ? 'failure' : 'success', i * 1000);
  t.equal(late.endpoints.reduce((sum, { ejections }) => sum + ejections, 0) <= 1, true);
});

t.test('a run of failures must be longer where calls fail on all endpoints', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const [bad, peer] = endpoints as [WatchedEndpoint, WatchedEndpoint];
  let nowMs = 0;
  const both = (outcome: AttemptOutcome) => {
    nowMs += 1_000;
    call(detector, peer, nowMs % 2_000 === 0 ? 'failure' : 'success', nowMs);
    return call(detector, bad, outcome, nowMs);
  };
  for (let i = 0; i < 60; i++) both(i % 2 === 0 ? 'failure' : 'success');
  let failed = 1;
  while (both('failure') === undefined && failed < 50) failed++;
  t.equal(bad.reason, 'consecutive_failures');
  t.equal(
    failed,
    10,
    'at a peer that fails half of its calls ten are as rare as three where one in ten fails',
  );
});

t.test('a failure rate well above the others’ ejects without any run of failures', async (t) => {
  const { detector, endpoints } = detectorWith(3);
  const bad = endpoints[0]!;
  let calls = 0;
  for (; calls < 60 && !bad.ejected; calls++) {
    for (const endpoint of endpoints)
      call(detector, endpoint, endpoint === bad && calls % 2 === 1 ? 'failure' : 'success', calls * 3000);
  }
  t.match(bad, { reason: 'success_rate', detail: '6 of its last 12 calls failed, 0 of 22 at the others' });
  t.equal(calls, 12);

  const alone = detectorWith(2);
  const failing = alone.endpoints[0]!;
  for (let i = 0; i < 40 && !failing.ejected; i++)
    call(alone.detector, failing, i % 3 === 2 && i < 30 ? 'success' : 'failure', i * 1000);
  t.equal(failing.reason, 'consecutive_failures');
  const peerless = detectorWith(2, { consecutiveFailures: 0 });
  const often = peerless.endpoints[0]!;
  for (let i = 0; i < 100 && !often.ejected; i++)
    call(peerless.detector, often, i % 6 === 5 ? 'success' : 'failure', i * 1000);
  t.equal(often.reason, 'failure_percentage', 'nothing is known of the peer');
});

t.test(
  'three slow answers eject an endpoint while its peers are quick, and none when all are slow',
  async (t) => {
    const setUp = () => {
      const { detector, endpoints } = detectorWith(2);
      const [slow, quick] = endpoints as [WatchedEndpoint, WatchedEndpoint];
      let nowMs = 0;
      const timed = (watched: WatchedEndpoint, latencyMs: number) => {
        const attempt = begun(detector, watched, nowMs);
        nowMs += latencyMs;
        const event = detector.answered(attempt, METHOD, nowMs) ?? detector.end(attempt, 'success', nowMs);
        nowMs += 100;
        return event;
      };
      for (let i = 0; i < 70; i++)
        for (const endpoint of [slow, quick]) timed(endpoint, 1000 + (i % 7) * 200);
      return { detector, slow, quick, timed, now: () => nowMs };
    };
    const { slow, quick, timed, detector, now } = setUp();
    t.equal(timed(slow, 60_000), undefined);
    for (let i = 0; i < 3; i++) timed(quick, 1500);
    t.equal(timed(slow, 60_000), undefined);
    const event = timed(slow, 60_000);
    t.match(event, { kind: 'ejected', endpoint: slow, reason: 'latency' });
    t.match(event!.message, /first messages take over 6400 ms, and 1600 ms at its peers/);
    detector.tick(now() + 30_000);
    t.equal(slow.state, 'probation');

    const all = setUp();
    for (let i = 0; i < 20; i++)
      for (const endpoint of [all.slow, all.quick]) t.equal(all.timed(endpoint, 60_000), undefined);

    // A short stall hits all calls in flight: one piece of evidence.
    const stalled = setUp();
    const stallAtMs = stalled.now();
    const hit = Array.from({ length: 50 }, (_, i) => begun(stalled.detector, stalled.slow, stallAtMs + i));
    for (let i = 0; i < 12; i++) stalled.timed(stalled.quick, 1500);
    for (const attempt of hit) t.equal(stalled.detector.answered(attempt, METHOD, stalled.now()), undefined);

    // After an ejection, one call that surely hangs is enough, although the endpoint has no latency samples.
    const refusing = detectorWith(2);
    const [bad, peer] = refusing.endpoints as [WatchedEndpoint, WatchedEndpoint];
    fail(refusing.detector, bad, 3, 0);
    for (let i = 0; i < 300; i++) {
      const attempt = begun(refusing.detector, peer, i * 200);
      refusing.detector.answered(attempt, METHOD, i * 200 + 100);
      refusing.detector.end(attempt, 'success', i * 200 + 100);
      if (i === 150) refusing.detector.tick(i * 200);
      if (i === 151) begun(refusing.detector, bad, i * 200);
      if (i > 151 && refusing.detector.tick(i * 200 + 100).length > 0) {
        t.ok((i - 151) * 200 < 2_000, `ejected again after ${(i - 151) * 200} ms`);
        t.equal(bad.reason, 'latency');
        break;
      }
    }
    t.equal(bad.ejections, 2);

    // Without any answer, three waiting calls count like three answers, once they have waited long enough.
    const hung = setUp();
    const startMs = hung.now();
    const waiting = [0, 1, 2].map((i) => begun(hung.detector, hung.slow, startMs + i * 200));
    for (let i = 0; i < 4; i++) hung.timed(hung.quick, 1500);
    t.strictSame(hung.detector.tick(startMs + 6_000), []);
    let events: readonly { reason: string }[] = [];
    let atMs = startMs + 6_000;
    while (events.length === 0 && atMs < startMs + 60_000) events = hung.detector.tick((atMs += 250));
    t.equal(events[0]!.reason, 'latency');
    t.ok(atMs - startMs < 20_000, `after ${atMs - startMs} ms`);
    for (const attempt of waiting) t.equal(hung.detector.end(attempt, 'failure', atMs + 1), undefined);

    // The wait of a cancelled call counts.
    const left = setUp();
    const leftAtMs = left.now();
    const impatient = [0, 1, 2].map((i) => begun(left.detector, left.slow, leftAtMs + i * 200));
    for (let i = 0; i < 12; i++) left.timed(left.quick, 1500);
    const last = impatient.map((attempt) => left.detector.end(attempt, 'neutral', left.now())).at(-1);
    t.match(last, { reason: 'latency' });
    // A shorter wait of a cancelled call does not count, not even as a quick answer.
    const mixed = setUp();
    let found: { reason: string } | undefined;
    for (let i = 0; i < 3; i++) {
      found = mixed.timed(mixed.slow, 60_000);
      for (let j = 0; j < 4; j++) {
        const attempt = begun(mixed.detector, mixed.slow, mixed.now());
        mixed.timed(mixed.quick, 1500);
        mixed.detector.end(attempt, 'neutral', mixed.now());
      }
    }
    t.match(found, { reason: 'latency' });
    const soon = setUp();
    for (let i = 0; i < 50; i++) {
      const attempt = begun(soon.detector, soon.slow, soon.now());
      soon.timed(soon.quick, 1500);
      t.equal(soon.detector.end(attempt, 'neutral', soon.now()), undefined);
    }
  },
);

t.test('the detector distinguishes methods, up to a bound', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  let nowMs = 0;
  for (let i = 0; i < 300; i++) {
    for (const endpoint of endpoints) {
      const slow = i % 2 === 0;
      const method = slow ? METHOD : '/agent.AgentService/HealthCheck';
      const attempt = new WatchedAttempt(endpoint);
      detector.begin(attempt, nowMs);
      detector.awaitAnswer(attempt, method, nowMs);
      nowMs += slow ? 20_000 : 1;
      detector.answered(attempt, method, nowMs);
      t.equal(detector.end(attempt, 'success', nowMs), undefined);
      nowMs += 200;
    }
  }
  for (let i = 0; i < 100; i++) {
    const attempt = new WatchedAttempt(endpoints[0]!);
    detector.begin(attempt, nowMs);
    detector.awaitAnswer(attempt, `/invented/${i}`, nowMs);
    detector.answered(attempt, `/invented/${i}`, nowMs);
    detector.end(attempt, 'success', nowMs);
  }
  t.ok(endpoints[0]!.latency.length <= 8);
});

t.test('throttling causes a cooldown and ejects no endpoint', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const [throttled, other] = endpoints as [WatchedEndpoint, WatchedEndpoint];
  detector.coolDown(throttled, 2_500, 1_000);
  t.strictSame([throttled.admits, detector.ejected, detector.nextAtMs(1_000)], [false, 0, 3_500]);
  t.match(reportOf(throttled, 2_000), { state: 'cooling_down', leftMs: 1_500 });
  detector.coolDown(throttled, 100, 1_100);
  detector.tick(3_499);
  t.notOk(throttled.admits, 'a shorter one does not end it');
  detector.tick(3_500);
  t.ok(throttled.admits);
  t.equal(detector.nextAtMs(3_500), Number.POSITIVE_INFINITY);

  const guessed: number[] = [];
  for (let i = 0, nowMs = 10_000; i < 6; i++) {
    detector.coolDown(throttled, i % 2 === 0 ? undefined : -1, nowMs);
    guessed.push(throttled.coolUntilMs - nowMs);
    nowMs = throttled.coolUntilMs;
    detector.tick(nowMs);
  }
  t.strictSame(guessed, [1000, 2000, 4000, 8000, 10_000, 10_000]);
  call(detector, throttled, 'success', 50_000);
  detector.coolDown(throttled, undefined, 60_000);
  t.equal(throttled.coolUntilMs, 61_000, 'a success begins anew');
  detector.coolDown(throttled, 3_600_000, 70_000);
  t.equal(throttled.coolUntilMs, 130_000, 'at most a minute');
  detector.coolDown(other, 0, 70_000);
  t.ok(other.admits, 'a pushback of 0 is no cooldown');

  const four = detectorWith(4);
  const [ejected, cooling, probing, kept] = four.endpoints as WatchedEndpoint[];
  fail(four.detector, probing!, 3, 0);
  four.detector.tick(30_000);
  fail(four.detector, ejected!, 3, 30_000);
  four.detector.coolDown(cooling!, 1000, 30_000);
  four.detector.healthChecked(kept!, false, 'NOT_SERVING', 30_000);
  const ranked = [...four.endpoints].sort((a, b) => fallbackRank(a, 30_000) - fallbackRank(b, 30_000));
  t.strictSame(ranked, [probing, cooling, ejected, kept]);
});

t.test('active health checks eject and bring back', async (t) => {
  const { detector, endpoints } = detectorWith(2);
  const [one, two] = endpoints as [WatchedEndpoint, WatchedEndpoint];
  t.match(detector.healthChecked(one, false, 'health check: NOT_SERVING', 0), {
    kind: 'ejected',
    reason: 'health_check',
    forMs: Number.POSITIVE_INFINITY,
    message: /until its health check passes: health check: NOT_SERVING/,
  });
  t.equal(detector.healthChecked(one, false, '', 1), undefined);
  t.strictSame(detector.tick(10_000_000), [], 'however long it takes');
  t.equal(detector.healthChecked(two, false, 'x', 1), undefined, 'there is no room for the other');
  t.match(detector.healthChecked(one, true, '', 2), { kind: 'returned' });
  t.match(detector.tick(3), [{ kind: 'ejected', endpoint: two, reason: 'health_check' }], 'now there is');
  t.match(detector.healthChecked(two, true, '', 4), { kind: 'returned' });

  // Ejected by its calls: a check that passed all the time brings it not back, one that had failed does.
  const calls = detectorWith(2);
  const bad = calls.endpoints[0]!;
  fail(calls.detector, bad, 3, 0);
  t.equal(calls.detector.healthChecked(bad, true, '', 1_000), undefined);
  t.equal(calls.detector.healthChecked(bad, false, '', 2_000), undefined);
  t.match(calls.detector.healthChecked(bad, true, '', 3_000), { kind: 'returned' });
  t.match(
    fail(calls.detector, bad, 1, 3_001),
    { kind: 'ejected', forMs: 60_000 },
    'on probation all the same',
  );
  calls.detector.healthChecked(bad, false, '', 4_000);
  t.strictSame(calls.detector.tick(63_001), [], 'its time is over, but its check fails');
  t.match(calls.detector.healthChecked(bad, true, '', 70_000), { kind: 'returned' });
});

t.test('the removal of endpoints, or a lower limit, returns ejected endpoints', async (t) => {
  const { detector, endpoints } = detectorWith(4);
  const [first, second, third] = endpoints as WatchedEndpoint[];
  fail(detector, first!, 3, 0);
  fail(detector, second!, 3, 1_000);
  t.match(detector.remove(third!, 2_000), [{ kind: 'returned', endpoint: first }], 'who would return first');
  t.strictSame(detector.remove(third!, 2_000), []);
  t.equal(detector.end(begun(detector, third!, 2_000), 'failure', 2_000), undefined);
  t.match(detector.update({ ...DEFAULTS, maxEjectionPercent: 0 }, 3_000), [
    { kind: 'returned', endpoint: second },
  ]);
  t.equal(detector.ejected, 0);
  detector.update(DEFAULTS, 4_000);
  fail(detector, second!, 1, 4_000);
  detector.remove(second!, 4_000);
  t.equal(detector.ejected, 0, 'an ejected one that leaves is not counted any more');
});

t.test('the limit of ejections holds in every history, and every endpoint returns', async (t) => {
  const step = fc.record({
    who: fc.nat(5),
    what: fc.constantFrom(
      'success',
      'failure',
      'failure',
      'neutral',
      'stream',
      'end',
      'hang',
      'cool',
      'sick',
      'well',
      'add',
      'remove',
      'settings',
      'tick',
    ),
    afterMs: fc.nat(20_000),
    percent: fc.constantFrom(0, 10, 50, 100),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), fc.integer({ min: 1, max: 5 }), (steps, count) => {
      const { detector } = detectorWith(count);
      const open: WatchedAttempt[] = [];
      let nowMs = 0;
      let added = count;
      const check = (): void => {
        const { endpoints } = detector;
        const ejected = endpoints.filter((endpoint) => endpoint.ejected).length;
        if (ejected !== detector.ejected) throw new Error(`${ejected} are ejected, not ${detector.ejected}`);
        if (ejected > detector.maxEjected || (ejected > 0 && ejected >= endpoints.length))
          throw new Error(`${ejected} of ${endpoints.length} are ejected`);
        for (const { state, admits, cooling, probing, probeLimit, ejectedUntilMs } of endpoints) {
          const may = !cooling && (state === 'in_service' || (state === 'probation' && probing < probeLimit));
          if (may !== admits) throw new Error(`${state}, ${probing} probes, admits ${admits}`);
          if (probing < 0) throw new Error(`${probing} probes`);
          if (state === 'ejected' && ejectedUntilMs !== Infinity && ejectedUntilMs > nowMs + 300_000)
            throw new Error('out for longer than max_ejection_time');
        }
      };
      for (const { who, what, afterMs, percent } of steps) {
        nowMs += afterMs;
        const watched = detector.endpoints[who % Math.max(detector.endpoints.length, 1)];
        if (what === 'add') detector.add(`10.0.1.${added++}:50051`);
        else if (what === 'tick') detector.tick(nowMs);
        else if (what === 'settings') detector.update({ ...DEFAULTS, maxEjectionPercent: percent }, nowMs);
        else if (what === 'end') {
          const attempt = open.splice(who % Math.max(open.length, 1), 1)[0];
          if (attempt !== undefined) detector.end(attempt, percent > 10 ? 'failure' : 'success', nowMs);
        } else if (watched === undefined) continue;
        else if (what === 'remove') detector.remove(watched, nowMs);
        else if (what === 'cool') detector.coolDown(watched, percent * 100, nowMs);
        else if (what === 'sick' || what === 'well')
          detector.healthChecked(watched, what === 'well', 'check', nowMs);
        else if (what === 'stream' || what === 'hang') {
          const attempt = begun(detector, watched, nowMs);
          if (what === 'stream') detector.answered(attempt, METHOD, nowMs + 1);
          open.push(attempt);
        } else call(detector, watched, what as AttemptOutcome, nowMs);
        check();
      }
      for (const attempt of open) detector.end(attempt, 'neutral', nowMs);
      for (const endpoint of detector.endpoints) {
        detector.healthChecked(endpoint, true, '', nowMs);
        if (endpoint.probing !== 0) throw new Error(`${endpoint.probing} probes are left`);
        if (endpoint.oldestWaiting !== undefined) throw new Error('an attempt that has ended still waits');
      }
      // Only time passes, by `nextAtMs` and `tick`: all endpoints return.
      for (let i = 0; i < 50; i++) {
        const next = detector.nextAtMs(nowMs);
        if (next === Number.POSITIVE_INFINITY) break;
        nowMs = Math.max(nowMs, next);
        detector.tick(nowMs);
        check();
      }
      if (detector.endpoints.some(({ ejected, cooling }) => ejected || cooling)) throw new Error('still out');
    }),
    { numRuns: 300 },
  );
  t.pass();
});
