/** Tests which cluster a call goes to. */
import t from 'tap';
import { headOf } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { ClusterWithPolicies } from './cluster-policies.ts';
import type { RouteRule } from './route-settings.ts';
import { type Route, RuleRouter, SingleRouter } from './router.ts';

const clusterNamed = (name: string, balancer = 'peak_ewma'): ClusterWithPolicies =>
  ({ name, settings: { balancer } }) as unknown as ClusterWithPolicies;
const clusters = new Map(
  ['a', 'b', 'B2', 'with:colon'].map((name): [string, ClusterWithPolicies] => [name, clusterNamed(name)]),
);
const task = '/agent.AgentService/ProcessTask';

function rule(cluster: string, match: Partial<RouteRule['match']> = {}): RouteRule {
  const any = { authority: undefined, pathPrefix: undefined, headers: {}, agentType: undefined };
  return { cluster, match: { ...any, ...match } };
}

function routeOf(
  router: RuleRouter | SingleRouter,
  authority: string,
  path: string,
  ...more: string[]
): Route {
  const fields = [':method', 'POST', ':scheme', 'http', ':path', path, ':authority', authority, ...more];
  const list = new HeaderList(fields);
  return router.route(list, headOf(list, 'request'));
}

t.test('an authority names a cluster by the rule for names', async (t) => {
  const agents = { namespace: 'agents', clusterDomain: 'k8s.corp' };
  const names = [
    'a',
    'b',
    'B2',
    'with:colon',
    'localhost:50051',
    'localhost:50052',
    'localhost',
    'far.tools',
  ];
  const known = new Map([...names, 'fd00::1', 'Case', 'case'].map((name) => [name, clusterNamed(name)]));
  const inPod = new RuleRouter([], known, agents);
  const outside = new RuleRouter([], known);
  const named: [authority: string, inPod: string | undefined, outside?: string | undefined][] = [
    ['a', 'a'],
    ['A:1', 'a'],
    ['a.', 'a'],
    ['A.:443', 'a'],
    ['a..', undefined],
    ['b2', 'B2'],
    ['B2:443', 'B2'],
    ['with:colon', 'with:colon'],
    ['case:1', 'Case'],
    ['case', 'case'],
    ['', undefined],
    [':80', undefined],
    ['a.agents', 'a', undefined],
    ['a.agents.svc', 'a', undefined],
    ['a.agents.svc.:50051', 'a', undefined],
    ['A.Agents.svc.k8s.corp.', 'a', undefined],
    ['a.agents.svc.cluster.local', undefined],
    ['a.other', undefined],
    ['a.other.svc.k8s.corp', undefined],
    ['a.agents.example', undefined],
    ['far', undefined],
    ['far.tools.svc', 'far.tools'],
    ['far.tools.svc.k8s.corp:7', 'far.tools', undefined],
    ['far.tools.svc.cluster.local:7', undefined, 'far.tools'],
    ['localhost:50051', 'localhost:50051'],
    ['LocalHost.:50052', 'localhost:50052'],
    ['localhost:50053', 'localhost'],
    ['localhost', 'localhost'],
    ['[fd00::1]:50051', 'fd00::1'],
    ['[FD00:0:0::1]', 'fd00::1'],
    ['[fd00::2]', undefined],
  ];
  for (const [authority, expected, ...other] of named) {
    t.equal(routeOf(inPod, authority, '/x').cluster?.name, expected, JSON.stringify(authority));
    const elsewhere = other.length === 0 ? expected : other[0];
    t.equal(routeOf(outside, authority, '/x').cluster?.name, elsewhere, `${authority}, no pod`);
  }

  const byRule = new RuleRouter(
    [
      rule('a', { authority: '[::1]' }),
      rule('b', { authority: 'host:7' }),
      rule('B2', { authority: '::1' }),
      rule('with:colon', { authority: 'Planner.agents.' }),
      rule('b', { authority: '10.0.0.7:50051' }),
    ],
    clusters,
    agents,
  );
  const ruled: [authority: string, cluster: string | undefined][] = [
    ['[::1]', 'a'],
    ['[::1]:50051', 'a'],
    ['[0::0:1]:50051', 'a'],
    ['HOST:7', 'b'],
    ['host.agents.svc:7', 'b'],
    ['host:8', undefined],
    ['host', undefined],
    ['planner', 'with:colon'],
    ['planner.agents.svc.k8s.corp.:1', 'with:colon'],
    ['planner.tools', undefined],
    ['10.0.0.7:50051', 'b'],
    ['10.0.0.7', undefined],
  ];
  for (const [authority, expected] of ruled)
    t.equal(routeOf(byRule, authority, '/x').cluster?.name, expected, authority);

  for (let i = 0; i < 5_000; i++) routeOf(inPod, `name-${i}`, '/x');
  t.equal(routeOf(inPod, 'a', '/x').cluster?.name, 'a', 'however many names were asked for');
});

t.test('a call waits for its message only if a rule of agent types may apply', async (t) => {
  const router = new RuleRouter(
    [
      rule('b', { headers: { 'x-only': 'b' } }),
      rule('a', { agentType: 'code' }),
      rule('b'),
      rule('B2', { agentType: 'late' }),
    ],
    clusters,
  );
  const route = routeOf(router, 'any', task);
  t.equal(route.needsMessage, true);
  t.equal(route.resolve('code')?.name, 'a');
  t.equal(route.resolve('late')?.name, 'b', 'behind a rule that takes everything');
  t.equal(route.resolve('')?.name, 'b');
  t.equal(routeOf(router, 'any', task, 'x-only', 'b').needsMessage, false, 'decided before');
  const other = routeOf(router, 'any', '/other.Service/Method');
  t.equal(other.needsMessage, false, 'other services have no agent types');
  t.equal(other.resolve('code')?.name, 'b');
});

t.test('a cluster that balances by task id needs the message', async (t) => {
  const ring = clusterNamed('ring', 'ring_hash');
  const router = new RuleRouter([rule('ring')], new Map([['ring', ring]]));
  t.equal(routeOf(router, 'any', task).needsMessage, true);
  t.equal(routeOf(router, 'any', '/other.Service/Method').needsMessage, false);
  t.equal(routeOf(new SingleRouter(ring), 'any', task).needsMessage, true);
  t.equal(routeOf(new SingleRouter(clusterNamed('app')), 'any', task).needsMessage, false);
});

t.test('the hint lists the routes that exist', async (t) => {
  t.match(new RuleRouter([], clusters).hint, /use one of: a, b, B2, with:colon/);
  t.match(new RuleRouter([], new Map()).hint, /none configured/);
  t.match(new RuleRouter([rule('a')], clusters).hint, /outbound\.routes/);
});
