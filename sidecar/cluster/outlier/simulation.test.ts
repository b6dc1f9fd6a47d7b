// Simulates hours of traffic through balancer and outlier detection, on a virtual clock: how often it ejects a healthy
// endpoint, and how soon a bad one. It prints its figures; docs and defaults rely on the bounds that it asserts.
import t from 'tap';
import { logNormal, OutlierSimulation, type Replica } from '../../../test/support/outlier-simulation.ts';

const HOUR_MS = 3_600_000;
const FAULT_AT_MS = 600_000;

/** An agent: log-normal latency, and a share of failing calls. */
const agent =
  (medianMs: number, sigma: number, failing = 0): Replica =>
  (_nowMs, random) => ({ latencyMs: logNormal(medianMs, sigma, random), fails: random() < failing });

/** An agent that takes some answers from a cache, and the others from a model. */
const cached =
  (share: number, cacheMs: number, modelMs: number): Replica =>
  (_nowMs, random) => ({
    latencyMs: logNormal(random() < share ? cacheMs : modelMs, 0.5, random),
    fails: false,
  });

/** An agent that streams tokens for some ten seconds after the first. */
const streaming =
  (failing: number): Replica =>
  (_nowMs, random) => ({
    latencyMs: logNormal(1_000, 0.5, random),
    fails: random() < failing,
    streamMs: logNormal(10_000, 0.5, random),
  });

const refusing: Replica = () => ({ latencyMs: 5, fails: true });
const blackHole: Replica = () => ({ latencyMs: Number.POSITIVE_INFINITY, fails: false });

const within =
  (fromMs: number, toMs: number, usual: Replica, faulty: Replica): Replica =>
  (nowMs, random) =>
    (nowMs >= fromMs && nowMs < toMs ? faulty : usual)(nowMs, random);
const from = (usual: Replica, faulty: Replica): Replica =>
  within(FAULT_AT_MS, Number.POSITIVE_INFINITY, usual, faulty);

function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)]!;
}

t.test('the detector ejects no healthy replica at one call a second', async (t) => {
  const kinds: [name: string, replica: Replica, mostIn24Hours: number][] = [
    ['log-normal, p99 3 x p50', agent(2_000, 0.5), 1],
    ['log-normal, p99 6 x p50', agent(2_000, 0.8), 1],
    ['log-normal, p99 10 x p50', agent(2_000, 1), 2],
    ['one in ten from the model, others 5 ms', cached(0.9, 5, 5_000), 1],
    ['half from the model, others 5 ms', cached(0.5, 5, 5_000), 3],
    ['1 % fails', agent(2_000, 0.5, 0.01), 2],
  ];
  for (const [name, replica, most] of kinds) {
    let ejections = 0;
    let hours = 0;
    for (const count of [2, 3, 4]) {
      const simulation = new OutlierSimulation({ replicas: Array(count).fill(replica), callsPerSecond: 1 });
      ejections += simulation.run(8 * HOUR_MS).ejections().length;
      hours += 8;
    }
    t.comment(`${name}: ${ejections} false ejections in ${hours} h`);
    t.ok(ejections <= most, `${name}: ${ejections} in ${hours} h, at most ${most}`);
  }
});

t.test('the detector finds a replica that fails or is slow within a few calls', async (t) => {
  const kinds: [name: string, usual: Replica, faulty: Replica, mostCalls: number][] = [
    ['refuses every call', agent(2_000, 0.8), refusing, 5],
    ['fails half of them', agent(2_000, 0.8), agent(2_000, 0.8, 0.5), 35],
    ['fails streams in their trailers', streaming(0.01), streaming(1), 12],
    ['20 x slower, 2 s', agent(2_000, 0.5), agent(40_000, 0.5), 10],
    ['20 x slower, 2 s, p99 10 x p50', agent(2_000, 1), agent(40_000, 1), 15],
    ['20 x slower, 20 ms', agent(20, 0.5), agent(400, 0.5), 6],
    ['100 x slower, 100 ms', agent(100, 0.5), agent(10_000, 0.5), 6],
    ['never answers, 2 s', agent(2_000, 0.8), blackHole, 12],
    ['never answers, 100 ms', agent(100, 0.5), blackHole, 6],
  ];
  for (const [name, usual, faulty, mostCalls] of kinds) {
    for (const count of [2, 4]) {
      const seconds: number[] = [];
      const calls: number[] = [];
      for (let seed = 1; seed <= 20; seed++) {
        const replicas = [from(usual, faulty), ...Array(count - 1).fill(usual)];
        const simulation = new OutlierSimulation({ replicas, callsPerSecond: 1, seed });
        const bad = simulation.run(FAULT_AT_MS - 1_000).members[0]!;
        const before = bad.calls;
        const ejected = () =>
          simulation.ejections(bad.watched.address).find(({ atMs }) => atMs > FAULT_AT_MS);
        for (let i = 0; i < 600 && ejected() === undefined; i++) simulation.run(1_000);
        seconds.push(((ejected()?.atMs ?? Number.POSITIVE_INFINITY) - FAULT_AT_MS) / 1000);
        calls.push(bad.calls - before);
      }
      const p90 = quantile(calls, 0.9);
      t.comment(
        `${name}, ${count} replicas: after ${quantile(calls, 0.5)} calls (p90 ${p90}), ` +
          `${quantile(seconds, 0.5).toFixed(0)} s (p90 ${quantile(seconds, 0.9).toFixed(0)})`,
      );
      t.ok(Math.max(...seconds) < 600, `${name}, ${count} replicas: found each time`);
      t.ok(p90 <= mostCalls, `${name}, ${count} replicas: ${p90} calls, at most ${mostCalls}`);
    }
  }
});

t.test('the detector ejects no replica for a fault that all share', async (t) => {
  const usual = agent(2_000, 0.8, 0.01);
  for (const [name, faulty] of [
    ['the provider stalls for a minute', agent(50_000, 0.5)],
    ['the provider is down for a minute', refusing],
  ] as const) {
    const ejections = [1, 2, 3, 4, 5].map((seed) => {
      const replica = within(FAULT_AT_MS, FAULT_AT_MS + 60_000, usual, faulty);
      const simulation = new OutlierSimulation({ replicas: Array(4).fill(replica), callsPerSecond: 2, seed });
      const before = simulation.run(FAULT_AT_MS - 1_000).ejections().length;
      return simulation.run(300_000).ejections().length - before;
    });
    t.comment(`${name}, 5 times: ejections ${ejections.join(', ')}`);
    // The first endpoint to fail looks like the only one.
    t.ok(Math.max(...ejections) <= 2, name);
  }
});

t.test('a replica that stays broken costs one call each time it returns', async (t) => {
  for (const [name, faulty] of [
    ['refuses', refusing],
    ['never answers', blackHole],
  ] as const) {
    const simulation = new OutlierSimulation({
      replicas: [from(agent(200, 0.5), faulty), agent(200, 0.5)],
      callsPerSecond: 20,
    }).run(FAULT_AT_MS);
    const [bad] = simulation.members;
    const before = bad!.calls;
    simulation.run(HOUR_MS);
    const calls = bad!.calls - before;
    const ejections = simulation.ejections();
    const returns = simulation.events.filter(({ kind }) => kind === 'returned').length;
    t.comment(`${name}, for an hour at 20/s: ${calls} calls, ${ejections.length} ejections`);
    t.ok(returns >= 14 && returns <= 18, `${returns} returns: after 30, 60, 90 … 300 s`);
    t.ok(calls <= returns + 15, `${calls} calls of 72,000, ${returns} returns`);
    t.ok(simulation.members[1]!.failures === 0);
  }
});

t.test('a repaired replica gets its full share again, soon', async (t) => {
  const usual = agent(200, 0.5);
  const simulation = new OutlierSimulation({
    replicas: [within(FAULT_AT_MS, FAULT_AT_MS + 20_000, usual, refusing), usual],
    callsPerSecond: 20,
    balancer: 'round_robin',
  }).run(FAULT_AT_MS + 60_000 - 1_000);
  const kinds = simulation.events.map(({ kind }) => kind);
  t.strictSame(kinds, ['ejected', 'returned', 'recovered']);
  const [ejected, returned, recovered] = simulation.events;
  t.equal(returned!.atMs - ejected!.atMs, 30_000);
  t.ok(recovered!.atMs - returned!.atMs < 5_000, `${recovered!.atMs - returned!.atMs} ms on probation`);
  const before = simulation.members.map(({ calls }) => calls);
  simulation.run(60_000);
  const [share] = simulation.members.map(({ calls }, i) => calls - before[i]!);
  t.ok(Math.abs(share! - 600) < 60, `${share} of 1,200 calls`);
});

t.test('a replica that flaps is ejected for longer each time', async (t) => {
  const usual = agent(200, 0.5);
  const flapping: Replica = (nowMs, random) =>
    (Math.floor(nowMs / 20_000) % 2 === 0 ? usual : refusing)(nowMs, random);
  const simulation = new OutlierSimulation({ replicas: [flapping, usual], callsPerSecond: 10 }).run(HOUR_MS);
  const [bad] = simulation.members;
  t.comment(`flapping for an hour at 10/s: ${bad!.failures} of 36,000 calls failed`);
  t.ok(bad!.failures < 100, `${bad!.failures} failures; it was in trouble half of the time`);
  t.ok(Math.max(...simulation.ejections().map(({ forMs }) => forMs)) >= 120_000);
  t.equal(simulation.mostEjected, 1);
});
