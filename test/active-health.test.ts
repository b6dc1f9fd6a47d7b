// Active health checks: what they take out of service, what they bring back, and what they leave alone.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type DataPlane, oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../scripts/harness/process.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { outboundTo, startSidecar } from '../scripts/harness/sidecar.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { clustersSnapshot } from '../sidecar/admin/snapshot.ts';
import type { Endpoint } from '../sidecar/cluster/endpoint.ts';
import { findingOf, HealthThreshold } from '../sidecar/cluster/health/threshold.ts';
import type { OutlierEvent } from '../sidecar/cluster/outlier/detector.ts';
import { Status } from '../sidecar/grpc/status.ts';
import { untilLogged } from './support/until-logged.ts';
import { answerWith, startUpstream } from './support/upstream.ts';

t.setTimeout(290_000);

const checkPath = '/grpc.health.v1.Health/Check';
const request = Buffer.from('x');

/** Often enough for a test, and patient enough for a machine that is busy. */
const quick = { interval: '100ms', timeout: '30s', unhealthy_threshold: 2, healthy_threshold: 2 };
/** Where somebody hangs. */
const doubting = { ...quick, timeout: '1s' };
const settings = (health_check: object, more: object = {}) => ({
  health_check,
  outlier_detection: { max_ejection_percent: 50 },
  balancer: 'round_robin',
  ...more,
});

interface Agent {
  readonly address: string;
  readonly name: string;
  process: TestProcess;
  /** What it says of itself from now on. */
  say(health: 'serving' | 'not_serving' | 'unavailable'): void;
  restart(): Promise<void>;
}

async function startAgents(
  t: Test,
  count: number,
  kind: 'grpc' | 'agent' | 'none' = 'grpc',
): Promise<Agent[]> {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-test-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const script = join(import.meta.dirname, 'support', 'health-agent.ts');
  const start = async (port: number, name: string): Promise<TestProcess> => {
    const agent = startProcess(t, process.execPath, [script, `${port}`, kind, name]);
    await waitUntil('the agent listened', () => agent.logs().includes('listening'));
    return agent;
  };
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const port = await freePort();
      const name = join(folder, `agent-${index}`);
      const agent: Agent = {
        address: `127.0.0.1:${port}`,
        name,
        process: await start(port, name),
        say: (health) => writeFileSync(name, health),
        restart: async () => {
          agent.process = await start(port, name);
        },
      };
      return agent;
    }),
  );
}

interface Scene {
  readonly plane: DataPlane;
  readonly outliers: OutlierEvent[];
  /** By which `endpoint` and `shape` count. */
  addresses: readonly string[];
  /** "STATE: detail" of each change. */
  readonly changes: string[];
  endpoint(index: number): Endpoint;
  shape(index: number): Record<string, unknown>;
  /** Who answered each of so many calls. */
  answers(count: number): Promise<string[]>;
}

async function startScene(t: Test, addresses: readonly string[], cluster: object): Promise<Scene> {
  const outliers: OutlierEvent[] = [];
  const changes: string[] = [];
  const plane = await startDataPlane(t, oneCluster(addresses, cluster as Record<string, unknown>), {
    onOutlier: (_cluster, event) => outliers.push(event),
    onHealthChange: (_cluster, _endpoint, { state, detail }) => changes.push(`${state}: ${detail}`),
  });
  const client = new RawClient(t, plane.outboundPort);
  const scene: Scene = {
    plane,
    addresses,
    outliers,
    changes,
    endpoint: (index) => {
      const { endpoints } = plane.sidecar.outbound.clusters.clusters.get('upstream')!;
      return endpoints.find(({ address }) => address === scene.addresses[index])!;
    },
    shape: (index) => {
      type Shape = Record<string, { endpoints: Record<string, unknown>[] }>;
      const { endpoints } = (clustersSnapshot(plane.sidecar) as Shape)['upstream']!;
      return endpoints.find(({ address }) => address === scene.addresses[index])!;
    },
    answers: async (count) => {
      const names: string[] = [];
      for (let i = 0; i < count; i++) {
        const { code, response, details } = await client.unary(request);
        names.push(code === status.OK ? response!.toString() : `${status[code]} ${details}`);
      }
      return names;
    },
  };
  return scene;
}

const healthOf = (scene: Scene, index: number) =>
  scene.shape(index)['health_check'] as { state: string; because: string };

t.test('a health check proves the state of an endpoint', async (t) => {
  t.equal(findingOf('serving', Status.OK), 'passes');
  t.equal(findingOf('not_serving', Status.OK), 'refuses', 'it said so itself');
  t.equal(findingOf('not_serving', Status.UNAVAILABLE), 'fails', 'somebody did');
  t.equal(findingOf('unreachable', undefined), 'fails');
  for (const code of [Status.UNIMPLEMENTED, Status.UNAUTHENTICATED, Status.PERMISSION_DENIED])
    t.equal(findingOf('no_health_service', code), 'passes', 'it lives, and can not be asked');
  for (const code of [Status.NOT_FOUND, Status.INTERNAL, Status.UNKNOWN, Status.DEADLINE_EXCEEDED, undefined])
    t.equal(findingOf('no_health_service', code), 'fails');
  t.equal(findingOf('no_health_service', Status.OK), 'fails', 'OK without a message');
  t.equal(findingOf('no_health_service', Status.RESOURCE_EXHAUSTED), 'nothing');
  t.equal(findingOf('busy', undefined), 'nothing');
  t.equal(findingOf('turned_away', undefined), 'nothing');
});

t.test('thresholds: how many results in a row change the state', async (t) => {
  const letters = { p: 'passes', f: 'fails', r: 'refuses', n: 'nothing' } as const;
  const after = (findings: string) => {
    const threshold = new HealthThreshold();
    for (const letter of findings)
      threshold.record(letters[letter as keyof typeof letters], {
        unhealthyThreshold: 3,
        healthyThreshold: 2,
      });
    return threshold.state;
  };
  const cases: Record<string, string> = {
    '': 'unknown',
    n: 'unknown',
    ff: 'unknown',
    p: 'healthy',
    fp: 'healthy',
    fff: 'unhealthy',
    pff: 'healthy',
    pffpff: 'healthy',
    pffnf: 'unhealthy',
    pr: 'unhealthy',
    r: 'unhealthy',
    rp: 'unhealthy',
    rpfp: 'unhealthy',
    rpp: 'healthy',
    rpnp: 'healthy',
    rppff: 'healthy',
  };
  for (const [findings, state] of Object.entries(cases)) t.equal(after(findings), state, findings);
});

for (const kind of ['grpc', 'agent'] as const) {
  t.test(`an agent that reports NOT_SERVING gets no calls until it reports SERVING: ${kind}`, async (t) => {
    const agents = await startAgents(t, 2, kind);
    const scene = await startScene(
      t,
      agents.map(({ address }) => address),
      settings({ ...quick, protocol: kind }),
    );
    const [good, bad] = agents as [Agent, Agent];
    await waitUntil('both were checked', () => scene.changes.length === 2);
    t.same(scene.changes, Array(2).fill('healthy: its health check passes'));
    t.same([...new Set(await scene.answers(4))].sort(), [good.name, bad.name], 'both have calls');

    bad.say('not_serving');
    await waitUntil('it was ejected', () => scene.outliers.length === 1);
    t.match(scene.outliers[0], {
      kind: 'ejected',
      reason: 'health_check',
      forMs: Number.POSITIVE_INFINITY,
      message: /until its health check passes: its health check says that it does not serve/,
    });
    t.match(scene.shape(1), {
      usable: false,
      service: 'ejected',
      because: /ejected \(health_check\)/,
      health_check: { state: 'unhealthy', because: 'its health check says that it does not serve' },
    });
    t.same(new Set(await scene.answers(6)), new Set([good.name]));

    bad.say('serving');
    await waitUntil('it is back', () => scene.outliers.length === 2);
    t.match(scene.outliers[1], { kind: 'returned', reason: 'health_check' });
    await waitUntil('it has calls', async () => (await scene.answers(1))[0] === bad.name);
    t.equal(healthOf(scene, 1).state, 'healthy');
    t.same(scene.plane.sidecar.outbound.stats.rejected, new Map(), 'no call was refused');
  });
}

t.test('a hanging agent is ejected without a call, and returns when it resumes', async (t) => {
  const agents = await startAgents(t, 2);
  const scene = await startScene(
    t,
    agents.map(({ address }) => address),
    settings(doubting),
  );
  await waitUntil('both were checked', () => scene.changes.length === 2);
  for (let round = 0; round < 2; round++) {
    const before = scene.outliers.length;
    agents[1]!.process.kill('SIGSTOP');
    await waitUntil('it gets no calls', () => !scene.endpoint(1).usable);
    t.match(healthOf(scene, 1), { state: 'unhealthy', because: 'its health check gets no answer' });
    t.same(new Set(await scene.answers(4)), new Set([agents[0]!.name]));
    agents[1]!.process.kill('SIGCONT');
    await waitUntil('it is well', () => healthOf(scene, 1).state === 'healthy');
    await waitUntil('it has calls', async () => (await scene.answers(1))[0] === agents[1]!.name);
    t.ok(scene.outliers.slice(before).every(({ reason }) => reason === 'health_check'));
  }
});

t.test('a dead agent frees its place among the ejected, and is found after its restart', async (t) => {
  const agents = await startAgents(t, 2);
  const scene = await startScene(
    t,
    agents.map(({ address }) => address),
    settings(quick),
  );
  await waitUntil('both were checked', () => scene.changes.length === 2);
  agents[0]!.process.kill('SIGKILL');
  await waitUntil('it is unhealthy', () => healthOf(scene, 0).state === 'unhealthy');
  t.match(scene.shape(0), { usable: false, because: /connecting failed/ });
  t.same(new Set(await scene.answers(4)), new Set([agents[1]!.name]));
  agents[1]!.say('not_serving');
  await waitUntil('the other is ejected', () => scene.endpoint(1).watched.ejected);
  t.ok(
    scene.outliers.every(({ endpoint }) => endpoint.address !== agents[0]!.address),
    'the dead one never was',
  );
  await agents[0]!.restart();
  // Its connection back-off alone would take longer from try to try.
  await waitUntil('it has calls', async () => (await scene.answers(1))[0] === agents[0]!.name);
  await waitUntil('it is well', () => healthOf(scene, 0).state === 'healthy');
});

t.test('checks never eject more than max_ejection_percent, and never the last endpoint', async (t) => {
  const agents = await startAgents(t, 2);
  for (const { say } of agents) say('not_serving');
  const scene = await startScene(
    t,
    agents.map(({ address }) => address),
    settings(quick),
  );
  await waitUntil('both are unhealthy', () => scene.changes.length === 2);
  t.equal(scene.outliers.length, 1, 'of two, one may be');
  const ejected = scene.endpoint(0).watched.ejected ? 0 : 1;
  const left = agents[1 - ejected]!;
  t.same(new Set(await scene.answers(4)), new Set([left.name]), 'the other keeps its calls');
  t.match(scene.shape(1 - ejected), { usable: true, health_check: { state: 'unhealthy' } });
  agents[ejected]!.say('serving');
  await waitUntil('they change places', () => scene.endpoint(1 - ejected).watched.ejected);
  t.same(new Set(await scene.answers(4)), new Set([agents[ejected]!.name]));

  const alone = await startScene(t, [left.address], settings(quick));
  await waitUntil('it is unhealthy', () => alone.changes.length === 1);
  t.same(await alone.answers(3), Array(3).fill(left.name));
  t.same(alone.outliers, []);
});

t.test('only repeated errors eject, and an app without a health service is healthy', async (t) => {
  const [agent, other] = (await startAgents(t, 2)) as [Agent, Agent];
  agent.say('unavailable');
  const rare = { ...quick, unhealthy_threshold: 5 };
  const scene = await startScene(t, [agent.address, other.address], settings(rare));
  await waitUntil('it is unhealthy', () => scene.outliers.length === 1);
  t.match(scene.outliers[0]!.message, /its health check gets the answer UNAVAILABLE/);

  const [none] = (await startAgents(t, 1, 'none')) as [Agent];
  const lenient = await startScene(t, [none.address, other.address], settings(quick));
  await waitUntil('both were checked', () => lenient.changes.length === 2);
  t.match(healthOf(lenient, 0), {
    state: 'healthy',
    because: 'its health check gets the answer UNIMPLEMENTED',
  });
});

t.test('a check ends an ejection by calls only if a check had failed since', async (t) => {
  let failing = true;
  let checks = 0;
  let health = 1;
  const replicas = await Promise.all(
    [0, 1].map((index) =>
      startUpstream(t, {
        health: true,
        onCall: ({ headers, stream }) => {
          if (headers[':path'] === checkPath) {
            if (index === 0) checks++;
            answerWith(stream, Buffer.from([8, index === 0 ? health : 1]));
          } else if (index === 0 && failing) {
            stream.respond({ ':status': 200, 'grpc-status': '14' }, { endStream: true });
          } else {
            answerWith(stream, `replica ${index}`);
          }
        },
      }),
    ),
  );
  const scene = await startScene(
    t,
    replicas.map(({ address }) => address),
    settings(quick),
  );
  await waitUntil('calls ejected it', async () => {
    await scene.answers(1);
    return scene.outliers.length === 1;
  });
  t.match(scene.outliers[0], { kind: 'ejected', reason: 'consecutive_failures' });
  failing = false;
  const seen = checks;
  await waitUntil('it was checked thrice', () => checks > seen + 3);
  t.equal(scene.outliers.length, 1, 'a check that passed all the while proves nothing');
  health = 2;
  await waitUntil('its check fails', () => healthOf(scene, 0).state === 'unhealthy');
  health = 1;
  await waitUntil('it is back', () => scene.outliers.length === 2);
  t.match(scene.outliers[1], { kind: 'returned', message: /its health check passes/ });
});

t.test(
  "checks run one at a time over the calls' connection, count as no calls, and end with the endpoint",
  async (t) => {
    let open = 0;
    let mostOpen = 0;
    const upstream = await startUpstream(t, {
      health: true,
      onCall: ({ headers, stream }) => {
        if (headers[':path'] !== checkPath) return answerWith(stream, 'a call');
        mostOpen = Math.max(mostOpen, ++open);
        stream.on('close', () => open--);
        setTimeout(() => answerWith(stream, Buffer.from([8, 1])), 150);
      },
    });
    const other = await startUpstream(t);
    const scene = await startScene(t, [upstream.address], settings({ ...quick, interval: '20ms' }));
    await waitUntil('five were made', () => upstream.calls.length >= 5);
    t.same(await scene.answers(3), Array(3).fill('a call'));
    t.equal(mostOpen, 1);
    t.equal(upstream.sessions.size, 1);
    const { calls, activeCalls } = scene.plane.sidecar.outbound.clusters.clusters.get('upstream')!;
    t.same([...calls.methods.keys()].length, 1, 'only the calls are in the statistics');
    t.equal(activeCalls, 0);
    t.match(scene.shape(0), { attempts: { OK: 3 }, active_calls: 0 });

    await scene.plane.apply(oneCluster([other.address], settings({ ...quick, interval: '20ms' })));
    await waitUntil('its connection has closed', () => upstream.sessions.size === 0);
    scene.addresses = [other.address];
    const { length } = upstream.calls;
    await waitUntil('the other is healthy', () => healthOf(scene, 0).state === 'healthy');
    t.equal(upstream.calls.length, length, 'no check follows');
    await scene.plane.apply(oneCluster([other.address], settings({ interval: '0s' })));
    t.equal(scene.shape(0)['health_check'], null, 'and none is made when they are off');
  },
);

t.test('with checks turned off, no endpoint is ejected by them', async (t) => {
  const [bad, good] = (await startAgents(t, 2)) as [Agent, Agent];
  bad.say('not_serving');
  const scene = await startScene(t, [bad.address, good.address], settings(quick));
  await waitUntil('it is ejected', () => scene.outliers.length === 1);
  await scene.plane.apply(oneCluster([bad.address, good.address], settings({ interval: '0s' })));
  t.match(scene.outliers[1], { kind: 'returned', message: /no longer checked/ });
  await waitUntil('it has calls', async () => (await scene.answers(1))[0] === bad.name);
});

t.test('the number of concurrent checks is bounded when many endpoints hang', async (t) => {
  let open = 0;
  let mostOpen = 0;
  const hanging = await Promise.all(
    Array.from({ length: 40 }, () =>
      startUpstream(t, {
        health: true,
        onCall: ({ stream }) => {
          mostOpen = Math.max(mostOpen, ++open);
          stream.on('close', () => open--);
        },
      }),
    ),
  );
  const scene = await startScene(
    t,
    hanging.map(({ address }) => address),
    settings(doubting),
  );
  await waitUntil('all were asked', () => hanging.every(({ calls }) => calls.length > 0));
  t.ok(mostOpen <= 16, `${mostOpen} at a time`);
  t.same(scene.outliers, [], 'their HTTP/2 answers: busy is not unhealthy');
  await waitUntil('a check had ended', () => healthOf(scene, 0).because !== '');
  t.match(healthOf(scene, 0), {
    state: 'unknown',
    because: 'its HTTP/2 answers, but its health check gets no answer in time',
  });

  const { health } = scene.plane.sidecar.outbound.clusters.clusters.get('upstream')!;
  const [kept] = scene.addresses as [string];
  await scene.plane.apply(oneCluster([kept], settings(doubting)));
  t.ok(health['running'].size + health['waiting'].size <= 1, 'the checks of removed endpoints have ended');
  const keptUpstream = hanging.find(({ address }) => address === kept)!;
  await waitUntil('the wire carries no more checks of the others, either', () => open <= 1);
  const asked = hanging.map(({ calls }) => calls.length);
  const before = keptUpstream.calls.length;
  await waitUntil('the one that stayed was asked again', () => keptUpstream.calls.length > before + 1);
  t.same(
    hanging.filter((upstream, index) => upstream.calls.length > asked[index]!).map(({ address }) => address),
    [kept],
  );
});

t.test('metrics, events and the log report checks', async (t) => {
  const agents = await startAgents(t, 2);
  const config = outboundTo(...agents.map(({ address }) => address));
  type Outbound = { clusters: { upstream: object } };
  const outbound = config['outbound'] as Outbound;
  outbound.clusters.upstream = { ...outbound.clusters.upstream, ...settings(quick) };
  const sidecar = await startSidecar(t, config, { until: 'live' });
  agents[0]!.say('not_serving');
  const text = async (port: number, path: string): Promise<string> =>
    (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  const ejections =
    /outrigger_ejections_total\{(?=[^}]*cluster="upstream")(?=[^}]*reason="health_check")[^}]*\} 1\b/;
  await waitUntil('it is counted', async () => ejections.test(await text(sidecar.metricsPort, '/metrics')));
  t.match(await text(sidecar.adminPort, '/clusters'), /its health check says that it does not serve/);
  await untilLogged(t, sidecar, /is unhealthy: its health check says that it does not serve/);
});
