// Makes the topology of the local system from its report: gateway, sidecars, agents and model. Pure.
import { toneOfEdge } from '/shared/topology.js';

const ACTIONS = [
  ['kill', 'Kill'],
  ['stop', 'Stop'],
  ['slow', 'Slow'],
  ['restore', 'Restore'],
];
/** The action that led to a state. */
const DOES = { killed: 'kill', stopped: 'stop', slow: 'slow' };
const PROCESS = {
  running: ['up', 'good'],
  slow: ['slow', 'warn'],
  starting: ['starting', 'warn'],
  stopped: ['stopped', 'bad'],
  killed: ['dead', 'bad'],
  ended: ['ended by itself', 'bad'],
};
const SIDE = { width: 150, height: 64 };

/** The counters of the gateway's sidecar, by the name of the replica. */
export function attemptsOf({ replicas }) {
  return replicas
    .filter(({ seen }) => seen !== null)
    .map(({ name, seen }) => {
      const all = Object.values(seen.attempts).reduce((sum, count) => sum + count, 0);
      return [name, { all, bad: all - (seen.attempts.OK ?? 0) }];
    });
}

/** Describes a replica's state at the gateway's sidecar, and whether the sidecar sends calls there. */
export function describeSeen(seen) {
  if (seen === null) return { words: 'unknown', tone: 'quiet' };
  const { usable, service, ejected_for_ms: left } = seen;
  const why = seen.because.replace(/^(ejected|back from an ejection) \([a-z_]+\): /, '');
  if (service === 'ejected')
    return { words: left > 0 ? `ejected · ${Math.ceil(left / 1000)} s` : 'ejected', why, tone: 'bad' };
  if (why.startsWith('connecting failed')) return { words: 'unreachable', why, tone: 'bad' };
  if (seen.condition === 'no sign of life') return { words: seen.condition, why, tone: 'bad' };
  if (service === 'probation') return { words: 'on probation', why, tone: 'warn' };
  if (!usable) return { words: 'not usable', why, tone: 'bad' };
  return { words: 'in service', why, tone: 'good' };
}

/** @param ratesOf returns the rate and the success of the gateway's attempts at a replica; null when unknown */
export function graphOf(report, ratesOf) {
  const { replicas, llm = [] } = report;
  // Where the egress is a service, agents ask its first replica, unless that is away.
  const asked = llm.find(({ state }) => state === 'running') ?? llm[0];
  // Whoever takes no tasks of the gateway, such as a tool runner, has no row where the model leaves room below it.
  const isAside = ({ takesTasks, dashboard }) => takesTasks === false && dashboard !== '' && llm.length === 0;
  const rows = replicas.filter((one) => !isAside(one));
  const aside = replicas.filter(isAside);
  const middle = (rows.length - 1) / 2;
  const nodes = [gatewayNode(report, middle)];
  const edges = [];
  for (const [at, replica] of [...rows, ...aside].entries()) {
    const before = replica.dashboard === '' ? 'gateway' : `sidecar of ${replica.name}`;
    if (at >= rows.length) {
      const row = middle - 0.1 + 2.8 * (at - rows.length);
      nodes.push({ ...sidecarNode(replica, row), column: 3 });
      nodes.push({ ...agentNode(replica, row + 1.45), column: 3 });
      edges.push(toAgent(replica, before));
      continue;
    }
    if (replica.dashboard !== '') {
      nodes.push(sidecarNode(replica, at));
      if (replica.takesTasks !== false) edges.push(toSidecar(replica, ratesOf(replica.name)));
    }
    nodes.push(agentNode(replica, at));
    edges.push(toAgent(replica, before));
    if (replica.takesTasks !== false) edges.push(toModel(replica, asked?.name ?? 'model'));
  }
  for (const [at, one] of llm.entries()) {
    nodes.push({ ...agentNode(one, middle + 1.5 * (at - (llm.length - 1) / 2)), column: 3 });
    edges.push(toModel(one, 'model'));
  }
  nodes.push({
    ...modelNode(report, middle - (aside.length > 0 ? 1.1 : 0)),
    column: llm.length === 0 ? 3 : 4,
  });
  return { nodes, edges };
}

function gatewayNode({ gateway, circuits }, row) {
  const open = circuits.find(({ state }) => state === 'open') ?? circuits[0];
  return {
    id: 'gateway',
    column: 0,
    row,
    ...SIDE,
    kind: 'gateway',
    title: 'Gateway',
    label: 'Gateway: the page of its sidecar',
    href: gateway.dashboard,
    detail: gateway.address,
    state: open?.state ?? 'up',
    note:
      open === undefined
        ? ''
        : `circuit to ${[...new Set(circuits.map(({ cluster }) => cluster))].join(', ')}`,
    why: circuits
      .map(({ cluster, state, because }) => `circuit of ${cluster} ${state}: ${because}`)
      .join('; '),
    tone: open === undefined ? 'good' : open.state === 'open' ? 'bad' : 'warn',
  };
}

function sidecarNode({ name, seen, onBus, takesTasks, sidecarAddress, dashboard, notReadyBecause }, row) {
  const silent = notReadyBecause === 'its sidecar does not answer';
  const draining = notReadyBecause === 'draining';
  // A tool runner whose sandbox does not hold is there, and runs nothing.
  const idle = takesTasks === false && notReadyBecause !== '';
  const { words, why, tone } = silent
    ? { words: 'no answer', why: notReadyBecause, tone: 'bad' }
    : draining
      ? { words: 'draining', why: '', tone: 'warn' }
      : idle
        ? { words: 'not ready', why: notReadyBecause, tone: 'warn' }
        : seen === null && onBus
          ? { words: 'takes tasks of the bus', why: '', tone: 'good' }
          : describeSeen(seen);
  return {
    id: `sidecar of ${name}`,
    column: 1,
    row,
    width: 196,
    height: 50,
    kind: 'sidecar',
    title: 'sidecar',
    label: `sidecar of ${name}: its page`,
    href: dashboard,
    detail: sidecarAddress,
    state: words,
    why,
    tone,
  };
}

function agentNode({ name, address, state, pid, canBeSlow }, row) {
  const [words, tone] = PROCESS[state] ?? [state, 'bad'];
  return {
    id: name,
    column: 2,
    row,
    width: 232,
    height: 76,
    kind: 'agent',
    title: name,
    detail: `${address} · ${pid === undefined ? 'no process' : `process ${pid}`}`,
    state: words,
    tone,
    actions: ACTIONS.map(([action, label]) => ({
      action,
      label,
      disabled: isUseless(action, state, canBeSlow),
    })),
  };
}

function isUseless(action, state, canBeSlow) {
  if (action === 'slow' && canBeSlow === false) return true;
  if (action === 'restore') return state === 'running';
  return state === 'killed' || state === 'ended' || DOES[state] === action;
}

function modelNode({ model, replicas }, row) {
  const open = replicas.some((one) => one.model?.state === 'open');
  return {
    id: 'model',
    column: 3,
    row,
    ...SIDE,
    kind: 'model',
    title: 'Model',
    detail: model.url.replace(/^https?:\/\//, ''),
    state: open ? 'circuit open' : model.offline ? 'offline' : 'up',
    tone: open ? 'bad' : 'good',
  };
}

function toSidecar({ name, seen }, rates) {
  const flow = { perS: rates?.perS ?? null, success: rates?.success ?? null, p95: seen?.p95_ms ?? null };
  const { tone } = describeSeen(seen);
  const id = `gateway to ${name}`;
  return {
    id,
    from: 'gateway',
    to: `sidecar of ${name}`,
    ...flow,
    tone: tone === 'bad' ? 'bad' : toneOfEdge(flow),
  };
}

function toAgent({ name, state, served }, from) {
  const flow = { perS: served?.per_s ?? null, success: served?.success ?? null, p95: served?.p95_ms ?? null };
  const dead = PROCESS[state]?.[1] === 'bad';
  return { id: `to ${name}`, from, to: name, ...flow, tone: dead ? 'bad' : toneOfEdge(flow) };
}

function toModel({ name, model }, to) {
  const flow = { perS: model?.per_s ?? null, success: model?.success ?? null, p95: model?.p95_ms ?? null };
  return { id: `${name} to model`, from: name, to, ...flow, tone: toneOfEdge(flow) };
}
