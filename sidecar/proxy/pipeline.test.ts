// The pipeline in a real data plane, with a discovery that answers when the test wants.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { readConfig, startDataPlane } from '../../scripts/harness/data-plane.ts';
import { PATIENCE_MS } from '../../scripts/harness/patience.ts';
import { RawClient } from '../../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { startUpstream } from '../../test/support/upstream.ts';
import { Cluster } from '../cluster/cluster.ts';
import { openSocket } from '../cluster/cluster-set.ts';
import type { Discovery } from '../cluster/discovery/discovery.ts';
import { DEFAULT_LIMITS } from '../http2/limits.ts';
import { PROCESS_TASK_PATH } from '../task/task-message.ts';
import { createPolicies } from './cluster-policies.ts';
import { RuleRouter } from './router.ts';

class TestDiscovery implements Discovery {
  emit!: (addresses: readonly string[]) => void;
  fail!: (error: Error) => void;

  start(onEndpoints: (addresses: readonly string[]) => void, onError: (error: Error) => void): void {
    this.emit = onEndpoints;
    this.fail = onError;
  }
  stop(): void {}
  refresh(): void {}
}

/** An outbound listener whose only cluster has no result of its discovery yet. */
async function startUnresolved(t: Test, limits: Record<string, number> = {}, timeout = '60s') {
  const { outbound } = await readConfig({
    outbound: { clusters: { agents: { dns: 'agents.example:1', timeout, limits } } },
  });
  const plane = await startDataPlane(t, {});
  const { wheel, clock } = plane.sidecar;
  const listener = {
    onEndpoints() {},
    onDiscoveryError() {},
    onConnectFailed() {},
    onOutlier() {},
    onEndpointUsable() {},
  };
  const environment = {
    wheel,
    clock,
    random: Math.random,
    limits: () => DEFAULT_LIMITS,
    connect: openSocket,
  };
  const settings = outbound.clusters.get('agents')!;
  const cluster = new Cluster(settings, environment, listener, (cluster) =>
    createPolicies(cluster, settings, plane.sidecar.outbound.context),
  );
  t.teardown(() => cluster.close());
  const discovery = new TestDiscovery();
  cluster.discover(discovery);
  plane.sidecar.outbound.context.router = new RuleRouter([], new Map([['agents', cluster]]));
  const client = new RawClient(t, plane.outboundPort);
  const call = (options: { deadline?: number } = {}) =>
    client.unary(Buffer.from('x'), { path: PROCESS_TASK_PATH, host: 'agents', ...options });
  return { plane, cluster, discovery, call };
}

t.test('calls wait for the first endpoints of a cluster', async (t) => {
  const upstream = await startUpstream(t);
  const { cluster, discovery, call } = await startUnresolved(t);
  const calls = [call(), call(), call()];
  await waitUntil('they are in', () => cluster.activeCalls === 3);
  discovery.emit([upstream.address]);
  for (const { code } of await Promise.all(calls)) t.equal(code, status.OK);
});

t.test('a failed first look-up ends the waiting calls, and later calls do not wait', async (t) => {
  const { cluster, discovery, call } = await startUnresolved(t);
  const first = call();
  await waitUntil('it is in', () => cluster.activeCalls === 1);
  discovery.fail(new Error('no such name'));
  for (const outcome of [await first, await call()]) {
    t.equal(outcome.code, status.UNAVAILABLE);
    t.strictSame(outcome.trailers.get('outrigger-reason'), ['no_endpoint']);
    t.match(outcome.details, /discovery found none yet/);
  }
});

t.test('a call that waits for endpoints keeps its deadline, and a bounded number may wait', async (t) => {
  const upstream = await startUpstream(t);
  const { plane, cluster, discovery, call } = await startUnresolved(t, { max_pending_calls: 2 }, '300ms');
  const waiting = [call(), call()];
  await waitUntil('they are in', () => cluster.activeCalls === 2);
  const refused = await call();
  t.equal(refused.code, status.RESOURCE_EXHAUSTED);
  t.match(refused.details, /max_pending_calls/);
  for (const { code } of await Promise.all(waiting)) t.equal(code, status.DEADLINE_EXCEEDED);
  discovery.emit([upstream.address]);
  t.equal((await call({ deadline: Date.now() + PATIENCE_MS })).code, status.OK);
  t.equal(upstream.calls.length, 1, 'calls that have ended are not sent');
  t.equal(plane.sidecar.outbound.stats.activeCalls, 0);
});

t.test('the end of a cluster ends the calls that wait for it', async (t) => {
  const { cluster, call } = await startUnresolved(t);
  const waiting = call();
  await waitUntil('it is in', () => cluster.activeCalls === 1);
  cluster.close();
  t.equal((await waiting).code, status.UNAVAILABLE);
});
