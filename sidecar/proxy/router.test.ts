import t from 'tap';
import type { Cluster } from '../cluster/cluster.ts';
import { headOf } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { type Route, type RouteRule, RuleRouter, SingleRouter } from './router.ts';

const clusterNamed = (name: string, balancer = 'peak_ewma'): Cluster =>
  ({ name, settings: { balancer } }) as unknown as Cluster;
const clusters = new Map(
  ['a', 'b', 'B2', 'with:colon'].map((name): [string, Cluster] => [name, clusterNamed(name)]),
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

t.test('an authority is compared without case, and without its port unless that is asked for', async (t) => {
  const byName = new RuleRouter([], clusters);
  const named: [authority: string, cluster: string | undefined][] = [
    ['a', 'a'],
    ['A:1', 'a'],
    ['b2', 'B2'],
    ['B2:443', 'B2'],
    ['with:colon', 'with:colon'],
    ['a.b', undefined],
    ['', undefined],
    [':80', undefined],
  ];
  for (const [authority, cluster] of named)
    t.equal(routeOf(byName, authority, '/x').cluster?.name, cluster, JSON.stringify(authority));

  const byRule = new RuleRouter(
    [rule('a', { authority: '[::1]' }), rule('b', { authority: 'host:7' }), rule('B2', { authority: '::1' })],
    clusters,
  );
  t.equal(routeOf(byRule, '[::1]', '/x').cluster?.name, 'a');
  t.equal(routeOf(byRule, '[::1]:50051', '/x').cluster?.name, 'a');
  t.equal(routeOf(byRule, 'HOST:7', '/x').cluster?.name, 'b');
  t.equal(routeOf(byRule, 'host', '/x').cluster, undefined);
});

t.test('rules of agent types wait for the message, as far as they can matter', async (t) => {
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

t.test('a cluster that balances by task id wants to see the message', async (t) => {
  const ring = clusterNamed('ring', 'ring_hash');
  const router = new RuleRouter([rule('ring')], new Map([['ring', ring]]));
  t.equal(routeOf(router, 'any', task).needsMessage, true);
  t.equal(routeOf(router, 'any', '/other.Service/Method').needsMessage, false);
  t.equal(routeOf(new SingleRouter(ring), 'any', task).needsMessage, true);
  t.equal(routeOf(new SingleRouter(clusterNamed('app')), 'any', task).needsMessage, false);
});

t.test('the hint says what there is', async (t) => {
  t.match(new RuleRouter([], clusters).hint, /use one of: a, b, B2, with:colon/);
  t.match(new RuleRouter([], new Map()).hint, /none configured/);
  t.match(new RuleRouter([rule('a')], clusters).hint, /outbound\.routes/);
});
