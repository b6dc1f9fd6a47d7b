// How often unreachable endpoints are tried, on a virtual clock and without a network.
import t, { type Test } from 'tap';
import { TimerWheel } from '../../clock/timer-wheel.ts';
import { DEFAULT_LIMITS } from '../../http2/limits.ts';
import { Cluster, type ClusterListener } from '../cluster.ts';
import { ReconnectSchedule } from '../connection/reconnect.ts';
import { StaticDiscovery } from '../discovery/static.ts';
import { HEALTH_CHECK_OFF } from './active-health.ts';

const silent: ClusterListener = {
  onEndpoints() {},
  onDiscoveryError() {},
  onConnectFailed() {},
  onEndpointUsable() {},
  onOutlier() {},
};

/** A cluster whose endpoints can't be reached. */
class Rig {
  readonly wheel = new TimerWheel();
  /** The time and the address of each try. */
  readonly connects: [atMs: number, address: string][] = [];
  readonly cluster: Cluster;
  callsWait = false;
  nowMs = 0;

  constructor(t: Test, endpoints: number) {
    this.cluster = new Cluster(
      {
        name: 'agents',
        balancer: 'round_robin',
        connectTimeoutMs: 5_000,
        keepalive: { timeMs: 0, timeoutMs: 0 },
        limits: { maxConnections: 1, maxPendingCalls: 10, maxConcurrentCalls: 10 },
        outlierDetection: {
          consecutiveFailures: 3,
          intervalMs: 30_000,
          baseEjectionTimeMs: 30_000,
          maxEjectionTimeMs: 300_000,
          maxEjectionPercent: 50,
        },
        healthCheck: HEALTH_CHECK_OFF,
        retry: { bufferBytes: 0 },
      },
      {
        wheel: this.wheel,
        clock: () => this.nowMs,
        random: () => 0.5,
        limits: () => DEFAULT_LIMITS,
        connect: (address) => {
          this.connects.push([this.nowMs, address]);
          throw new Error('nobody is there');
        },
      },
      silent,
      () => ({
        callsWait: () => this.callsWait,
        onEndpointBack() {},
        onEndpointAbsent() {},
        onEndpointsSince() {},
      }),
    );
    this.cluster.discover(
      new StaticDiscovery(Array.from({ length: endpoints }, (_, index) => `10.0.0.1:${index + 1}`)),
    );
    t.teardown(() => this.cluster.close());
  }

  /** A circuit is open because no endpoint could be reached. */
  miss(): void {
    this.callsWait = true;
    this.cluster.returns.wake();
  }

  pass(durationMs: number): void {
    const endMs = this.nowMs + durationMs;
    while (this.nowMs < endMs) {
      this.nowMs++;
      this.wheel.advance(this.nowMs);
    }
  }

  /** Returns the connection attempts in this time. */
  triesIn(durationMs: number): number {
    const before = this.connects.length;
    this.pass(durationMs);
    return this.connects.length - before;
  }
}

t.test(
  'the watch tries an endpoint that calls wait for often, but no more than twice a second',
  async (t) => {
    const rig = new Rig(t, 1);
    t.equal(rig.triesIn(10_000), 0, 'nobody has missed it');
    rig.miss();
    rig.pass(1_500);
    const waits = rig.connects.map(([atMs], index) => atMs - (rig.connects[index - 1]?.[0] ?? 10_000));
    // The pool's own back-off tries it, too, a second after the first failure.
    t.ok(waits.length >= 5 && Math.max(...waits) <= 400, `${waits}`);
    rig.pass(3_500);
    const tries = rig.triesIn(20_000);
    t.ok(tries >= 40 && tries <= 45, `${tries} tries in 20 s`);
    rig.callsWait = false;
    rig.pass(1_000);
    const alone = rig.triesIn(20_000);
    t.ok(alone <= 2, `what nobody misses has its own back-off alone: ${alone} tries`);
  },
);

t.test('tries for waiting calls do not lengthen the back-off of an endpoint', async (t) => {
  const schedule = new ReconnectSchedule();
  schedule.failed(0, 0.5);
  t.match(schedule, { dueAtMs: 1_000, wantedAtMs: 100 });
  schedule.failed(100, 0.5);
  t.match(schedule, { dueAtMs: 1_000, wantedAtMs: 230 });
  schedule.failed(999, 0.5);
  t.match(schedule, { dueAtMs: 1_000, wantedAtMs: 1_168 });
  schedule.failed(1_000, 0.5);
  t.match(schedule, { dueAtMs: 2_600 });
  for (let atMs = 1_200; atMs < 2_600; atMs += 200) schedule.failed(atMs, 0.5);
  t.match(schedule, { dueAtMs: 2_600, wantedAtMs: 2_400 + 500 });
  schedule.succeeded();
  schedule.failed(10_000, 0.5);
  t.match(schedule, { dueAtMs: 11_000, wantedAtMs: 10_100 });
});

t.test('the watch tries sixteen of many endpoints at a time, and all in turn', async (t) => {
  const rig = new Rig(t, 100);
  rig.miss();
  rig.pass(3_000);
  const [first] = rig.connects[0]!;
  t.equal(rig.connects.filter(([atMs]) => atMs === first).length, 16);
  t.equal(new Set(rig.connects.map(([, address]) => address)).size, 100);
});

t.test('a call that finds no endpoint causes an early look-up', async (t) => {
  const rig = new Rig(t, 1);
  let asked = 0;
  rig.cluster.discover({
    start: (onEndpoints) => onEndpoints([]),
    stop() {},
    refresh: () => void asked++,
  });
  t.equal(rig.cluster.pick({ hash: 0, avoid: undefined }, 0), undefined);
  t.equal(asked, 1);
});
