// Several agents behind one endpoint: what one of them does costs none of the others.
import { status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startDataPlane } from '../scripts/harness/data-plane.ts';
import { RawClient } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { clustersSnapshot, statsSnapshot } from '../sidecar/admin/snapshot.ts';
import { PROCESS_TASK_PATH, readTaskKey } from '../sidecar/task/task-message.ts';
import { type Answer, ok, type Replica, silence, startReplica, trailersOnly } from './support/answers.ts';
import { type ChainAgent, startChain } from './support/chain-agent.ts';
import { logFile, Submitter, startConsumer } from './support/task-consumer.ts';
import { type SeenCall, taskRequest } from './support/upstream.ts';

const typeOf = ({ body }: SeenCall): string => readTaskKey(body, 5, body.length).agentType;

/** One process with several agents: each answers in its own way, and agents that are not named answer well. */
async function startService(t: Test, agents: Readonly<Record<string, Answer>>): Promise<Replica> {
  return startReplica(t, (stream, call) => (agents[typeOf(call)] ?? ok)(stream, call));
}

let tasks = 0;
const taskFor = (type: string): Buffer => taskRequest({ id: `task ${++tasks}`, type, input: 'work' });

t.test('an agent that fails each call neither stops its neighbours nor their endpoint', async (t) => {
  const failing = { billing: trailersOnly(status.INTERNAL) };
  const services = [await startService(t, failing), await startService(t, failing)];
  const plane = await startDataPlane(t, {
    outbound: {
      clusters: {
        support: {
          endpoints: services.map(({ address }) => address),
          agent_types: ['billing', 'refunds'],
          outlier_detection: { consecutive_failures: 3, max_ejection_percent: 100 },
        },
      },
    },
  });
  const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'support' });
  const codes: Record<string, number[]> = { billing: [], refunds: [], triage: [] };
  for (let round = 0; round < 20; round++)
    for (const [type, seen] of Object.entries(codes))
      seen.push((await client.unary(taskFor(type), { path: PROCESS_TASK_PATH })).code);
  t.same(new Set(codes['refunds']), new Set([status.OK]), 'no call of refunds fails');
  t.same(new Set(codes['triage']), new Set([status.OK]), 'nor of an agent that has no circuit of its own');
  t.ok(codes['billing']!.includes(status.UNAVAILABLE), 'the circuit of billing is open');
  const clusters = clustersSnapshot(plane.sidecar);
  t.same(Object.keys(clusters).sort(), ['app', 'support', 'support/billing', 'support/refunds']);
  const circuitOf = (name: string) => Object.values(clusters[name]!.circuits).map(({ state }) => state);
  t.same(circuitOf('support/billing'), ['open']);
  t.same(circuitOf('support/refunds'), ['closed']);
  for (const { service, usable } of clusters['support/refunds']!.endpoints)
    t.match({ service, usable }, { service: 'in_service', usable: true });
  t.equal(services.flatMap(({ calls }) => calls).filter((call) => typeOf(call) === 'refunds').length, 20);
});

t.test('a reload adds agents to a cluster and takes them away', async (t) => {
  const service = await startService(t, { billing: trailersOnly(status.INTERNAL) });
  const withTypes = (agent_types: readonly string[]) => ({
    outbound: { clusters: { support: { endpoints: [service.address], agent_types } } },
  });
  const plane = await startDataPlane(t, withTypes([]));
  const client = new RawClient(t, plane.outboundPort, { 'grpc.default_authority': 'support' });
  const names = (): string[] => [...plane.sidecar.outbound.clusters.clusters.keys()];
  t.equal((await client.unary(taskFor('refunds'), { path: PROCESS_TASK_PATH })).code, status.OK);
  await plane.apply(withTypes(['billing']));
  t.same(names(), ['support', 'support/billing']);
  for (let i = 0; i < 5; i++) await client.unary(taskFor('billing'), { path: PROCESS_TASK_PATH });
  t.equal((await client.unary(taskFor('billing'), { path: PROCESS_TASK_PATH })).code, status.UNAVAILABLE);
  t.equal((await client.unary(taskFor('refunds'), { path: PROCESS_TASK_PATH })).code, status.OK);
  await plane.apply(withTypes([]));
  t.same(names(), ['support']);
  t.equal(
    (await client.unary(taskFor('billing'), { path: PROCESS_TASK_PATH })).code,
    status.INTERNAL,
    'the agent itself answers',
  );
});

t.test('an agent that hangs fills its own places and its own queue only', async (t) => {
  const service = await startService(t, { billing: silence });
  const plane = await startDataPlane(t, {
    inbound: {
      app: service.address,
      max_concurrent_calls: 8,
      agent_types: {
        billing: { max_concurrent_calls: 2, queue: { max_calls: 1, max_wait: '60s' } },
        refunds: {},
      },
    },
  });
  const client = new RawClient(t, plane.inboundPort, { 'grpc.enable_retries': 0 });
  const { admissions } = plane.sidecar.inbound.context;
  const waiting = Array.from({ length: 3 }, () =>
    client.unary(taskFor('billing'), { path: PROCESS_TASK_PATH }),
  );
  const stats = () => statsSnapshot(plane.sidecar).agent_types;
  await waitUntil('two run and one waits', () => {
    const { active_calls, waiting_calls } = stats()['billing']!;
    return active_calls === 2 && waiting_calls === 1;
  });
  const refused = await client.unary(taskFor('billing'), { path: PROCESS_TASK_PATH });
  t.equal(refused.code, status.RESOURCE_EXHAUSTED);
  t.match(refused.details, /2 calls of billing are in flight, which is the limit, and 1 wait/);
  for (let i = 0; i < 10; i++) {
    t.equal((await client.unary(taskFor('refunds'), { path: PROCESS_TASK_PATH })).code, status.OK);
    t.equal((await client.unary(taskFor('triage'), { path: PROCESS_TASK_PATH })).code, status.OK);
  }
  t.match(stats(), {
    billing: { active_calls: 2, waiting_calls: 1, max_concurrent_calls: 2, refused: 1 },
    refunds: { active_calls: 0, waiting_calls: 0, max_concurrent_calls: 1024, refused: 0 },
  });
  const byAgent = [...plane.sidecar.inbound.tasks.agents.keys()];
  t.ok(byAgent.includes('refunds'), 'its tasks are counted as its own');

  // A reload that gives billing more places lets the waiting call in.
  await plane.apply({
    inbound: { app: service.address, agent_types: { billing: { max_concurrent_calls: 3 } } },
  });
  const bills = (): SeenCall[] => service.calls.filter((call) => typeOf(call) === 'billing');
  await waitUntil('all three run', () => bills().filter(({ complete }) => complete).length === 3);
  t.equal(stats()['billing']!.active_calls, 3);
  t.notOk(admissions!.has('refunds'));
  for (const call of bills()) ok(call.stream, call);
  const codes = (await Promise.all(waiting)).map(({ code }) => code);
  t.same(codes, [status.OK, status.OK, status.OK]);
  await waitUntil('no place is taken', () => stats()['billing']!.active_calls === 0);
});

t.test('tasks of an agent that hangs leave the places for tasks of the others alone', async (t) => {
  const service = await startService(t, { billing: silence });
  const file = logFile(t);
  const submitter = await Submitter.open(t, file);
  const plane = await startConsumer(t, file, {
    inbound: { app: service.address, agent_types: { billing: {}, refunds: {} } },
    bus: { consume: { agent_types: ['billing', 'refunds', 'triage'], places: 2 } },
  });
  for (let i = 0; i < 6; i++) await submitter.submit({ id: `bill ${i}`, type: 'billing' });
  await waitUntil('billing has all of its places', () => plane.sidecar.busSide.running === 2);
  for (const type of ['refunds', 'triage', 'refunds'])
    t.equal(
      (await submitter.ended((await submitter.submit({ id: `${type} ${++tasks}`, type })).key)).state,
      'done',
    );
  t.equal(service.calls.filter((call) => typeOf(call) === 'billing').length, 2);
  // Without its own places, billing would have taken these.
  await plane.apply({
    name: 'agent',
    inbound: { app: service.address, agent_types: { billing: {} } },
    bus: { url: `file:${file}`, consume: { agent_types: ['refunds', 'triage'], places: 2 } },
  });
  for (const call of service.calls) if (typeOf(call) === 'billing') ok(call.stream, call);
  await waitUntil('the running ones have ended', () => plane.sidecar.busSide.running === 0);
  const after = await submitter.submit({ id: 'after', type: 'refunds' });
  t.equal((await submitter.ended(after.key)).state, 'done');
  t.equal(
    service.calls.filter((call) => typeOf(call) === 'billing').length,
    2,
    'it takes no more of billing',
  );
  t.same(plane.events, []);
});

t.test('agents of one process may call each other, and not in a circle', async (t) => {
  for (const forwards of [true, false]) {
    const { support } = (await startChain(t, {
      names: ['support'],
      inbound: { agent_types: { triage: {}, billing: {} } },
    })) as { support: ChainAgent };
    const seen: string[] = [];
    support.onTask = async ({ request, metadata }, agent) => {
      const { agentType } = readTaskKey(request, 0, request.length);
      seen.push(agentType);
      const other = agentType === 'triage' ? 'billing' : 'triage';
      const { code, trailers } = await agent.call('support', taskFor(other), forwards ? metadata : undefined);
      return Buffer.from(code === status.OK ? '' : `${code} ${String(trailers.get('outrigger-reason')[0])}`);
    };
    const client = new RawClient(t, support.inboundPort, { 'grpc.enable_retries': 0 });
    const answer = await client.unary(taskFor('triage'), { path: PROCESS_TASK_PATH });
    t.equal(answer.code, status.OK);
    const { rejected } = support.plane.sidecar.inbound.stats;
    if (forwards) {
      t.same(seen, ['triage', 'billing'], 'each runs once');
      t.same([...rejected], [['call_cycle', 1]]);
    } else {
      // Nobody knows whose call it is: no agent is accused, and the loop ends at its greatest depth.
      t.equal(seen.length, 8);
      t.same([...rejected], [['call_depth', 1]]);
    }
  }
});
