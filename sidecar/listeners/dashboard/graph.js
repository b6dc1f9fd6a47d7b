// Makes the topology around this sidecar from a snapshot: callers, the app, clusters with endpoints, providers. Pure.
import { count } from '/shared/numbers.js';
import { toneOfEdge } from '/shared/topology.js';
import { peerOf } from './peers.js';

const MAX_CLUSTERS = 8;
const MAX_ENDPOINTS = 6;
const USUAL = { width: 190, height: 52 };
const TONES = { good: 'good', warn: 'warn', bad: 'bad' };

/** The counters of attempts at each endpoint, by cluster and address. */
export function attemptsOf({ clusters }) {
  return clusters.flatMap(({ name, endpoints }) =>
    endpoints.map(({ address, attempts }) => {
      const all = Object.values(attempts).reduce((sum, number) => sum + number, 0);
      return [keyOf(name, address), { all, bad: all - (attempts.OK ?? 0) }];
    }),
  );
}

/** @param ratesOf returns rate and success of a key of `attemptsOf`; null when unknown */
export function graphOf(snapshot, ratesOf) {
  const graph = { nodes: [], edges: [], row: 0 };
  const [, ...clusters] = snapshot.clusters;
  if (snapshot.app.state !== 'none') addApp(graph, snapshot);
  for (const cluster of clusters.slice(0, MAX_CLUSTERS)) addCluster(graph, cluster, ratesOf);
  addProviders(graph, snapshot.llm);
  const middle = Math.max(graph.row - 1, 0) / 2;
  const [inbound] = snapshot.listeners;
  const calls = flowOf(inbound.traffic);
  const head = [
    { id: 'callers', column: 0, row: middle, width: 150, height: 52, kind: 'callers', title: 'Callers' },
    { id: 'self', column: 1, row: middle, ...USUAL, kind: 'sidecar self' },
  ];
  Object.assign(head[0], callersOf(inbound));
  Object.assign(head[1], selfOf(snapshot));
  const edge = { id: 'from callers', from: 'callers', to: 'self', ...calls, tone: toneOfEdge(calls) };
  return { nodes: [...head, ...graph.nodes], edges: [edge, ...graph.edges] };
}

function callersOf({ active_connections: connections }) {
  const detail = connections === 1 ? '1 connection' : `${count(connections)} connections`;
  return { detail, state: connections > 0 ? 'live' : 'none', tone: connections > 0 ? 'good' : 'quiet' };
}

function selfOf({ name, state, not_ready_because: notReady, listeners }) {
  const words = notReady === '' ? 'ready' : state === 'running' ? 'not ready' : 'draining';
  const tone = notReady === '' ? 'good' : state === 'running' ? 'bad' : 'warn';
  return { title: name, detail: listeners[0].address, state: words, why: notReady, tone };
}

/** What callers send goes to the app: they share the numbers of the inbound listener. */
function addApp(graph, { app: { address, state }, listeners }) {
  const flow = flowOf(listeners[0].traffic);
  const known = peerOf(address)?.name;
  const serving = state === 'serving';
  graph.nodes.push({
    id: 'app',
    column: 2,
    row: graph.row++,
    ...USUAL,
    kind: 'app',
    title: known ?? 'The app',
    detail: known === undefined ? address : `app · ${address}`,
    state: serving ? 'up' : state.replaceAll('_', ' '),
    tone: serving ? 'good' : state === 'unknown' ? 'quiet' : 'bad',
  });
  graph.edges.push({
    id: 'to app',
    from: 'self',
    to: 'app',
    ...flow,
    tone: state === 'unreachable' ? 'bad' : toneOfEdge(flow),
  });
}

function addCluster(graph, cluster, ratesOf) {
  const { name, traffic, circuits, balancer, usable_count: usable, endpoint_count: all } = cluster;
  const shown = [...cluster.endpoints]
    .sort((one, other) => one.usable - other.usable)
    .slice(0, MAX_ENDPOINTS);
  // The order of the page must not change with the state.
  shown.sort((one, other) => cluster.endpoints.indexOf(one) - cluster.endpoints.indexOf(other));
  const first = graph.row;
  graph.row += Math.max(shown.length, 1);
  const open =
    circuits.find(({ state }) => state === 'open') ?? circuits.find(({ state }) => state !== 'closed');
  const id = `cluster ${name}`;
  const flow = flowOf(traffic);
  const more = all > shown.length ? `, ${shown.length} shown` : '';
  const none = usable === 0 && all > 0;
  graph.nodes.push({
    id,
    column: 2,
    row: (first + graph.row - 1) / 2,
    ...USUAL,
    kind: 'cluster',
    title: name,
    detail: `${usable} of ${all} in service${more}`,
    state: open === undefined ? balancer.replaceAll('_', ' ') : `circuit ${open.state}`,
    why: open?.because ?? '',
    tone: open?.state === 'open' || none ? 'bad' : open !== undefined ? 'warn' : 'quiet',
  });
  graph.edges.push({
    id: `to ${id}`,
    from: 'self',
    to: id,
    ...flow,
    tone: open?.state === 'open' ? 'bad' : toneOfEdge(flow),
  });
  for (const [at, endpoint] of shown.entries()) addEndpoint(graph, name, endpoint, first + at, ratesOf);
}

function addEndpoint(graph, cluster, endpoint, row, ratesOf) {
  const { address, condition, tone, ejected_for_ms: left, because, p95_ms: p95 } = endpoint;
  const peer = peerOf(address);
  const key = keyOf(cluster, address);
  const rates = ratesOf(key);
  const flow = { perS: rates?.perS ?? null, success: rates?.success ?? null, p95 };
  const page = peer?.page ?? '';
  graph.nodes.push({
    id: key,
    column: 3,
    row,
    ...USUAL,
    width: 214,
    kind: 'replica',
    title: peer?.name ?? address,
    label: page === '' ? '' : `${peer.name}: the page of its sidecar`,
    href: page,
    detail: peer === undefined ? '' : address,
    state: stateOf(condition, left),
    why: because,
    tone: TONES[tone] ?? 'quiet',
  });
  graph.edges.push({
    id: `to ${key}`,
    from: `cluster ${cluster}`,
    to: key,
    ...flow,
    tone: tone === 'bad' ? 'bad' : toneOfEdge(flow),
  });
}

/** An egress that has had no request is not shown: every sidecar has a default provider. */
function addProviders(graph, { upstreams, requests, active_requests: active, address }) {
  if (requests.length === 0 && active === 0) return;
  const first = graph.row;
  graph.row += upstreams.length;
  const egress = {
    id: 'models',
    column: 2,
    row: (first + graph.row - 1) / 2,
    ...USUAL,
    kind: 'egress',
    title: 'Models',
    detail: address,
    state: `${count(active)} in flight`,
    tone: 'quiet',
  };
  graph.nodes.push(egress);
  const flows = upstreams.map(({ traffic }) => flowOf(traffic));
  const perS = flows.reduce((sum, flow) => sum + (flow.perS ?? 0), 0);
  const bad = flows.reduce((sum, flow) => sum + (flow.perS ?? 0) * (1 - (flow.success ?? 1)), 0);
  const total = {
    perS,
    success: flows.some(({ success }) => success !== null) && perS > 0 ? 1 - bad / perS : null,
    p95: Math.max(...flows.map(({ p95 }) => p95 ?? 0)) || null,
  };
  graph.edges.push({
    id: 'to models',
    from: 'self',
    to: 'models',
    ...total,
    tone: toneOfEdge(total, Number.POSITIVE_INFINITY),
  });
  for (const [at, { name, url, state }] of upstreams.entries()) {
    const id = `provider ${name}`;
    const { host } = URL.canParse(url) ? new URL(url) : { host: url };
    graph.nodes.push({
      id,
      column: 3,
      row: first + at,
      ...USUAL,
      kind: 'provider',
      title: name,
      detail: host,
      state: state === 'closed' ? 'provider' : `circuit ${state}`,
      tone: state === 'open' ? 'bad' : state === 'closed' ? 'good' : 'warn',
    });
    // Answers of models take long, which is no fault.
    const tone = state === 'open' ? 'bad' : toneOfEdge(flows[at], Number.POSITIVE_INFINITY);
    graph.edges.push({ id: `to ${id}`, from: 'models', to: id, ...flows[at], tone });
  }
}

/** `in service, idle` is `in service` here: the edge says that there are no calls. */
function stateOf(condition, leftMs) {
  if (leftMs > 0 && leftMs < 86_400_000) return `${condition} · ${Math.ceil(leftMs / 1000)} s`;
  return condition.replace(/, idle$/, '');
}

function keyOf(cluster, address) {
  return `${cluster} ${address}`;
}

function flowOf(traffic) {
  if (traffic === null || traffic === undefined) return { perS: null, success: null, p95: null };
  const { calls_per_s: perS, success, last_minute: minute } = traffic;
  return { perS, success, p95: minute.p95_ms };
}
