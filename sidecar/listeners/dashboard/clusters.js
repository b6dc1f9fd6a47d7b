// Shows clusters with their circuits and endpoints.
import { breakable, element, setClass, setText, sync } from '/shared/elements.js';
import { count, duration, latency, rate, span } from '/shared/numbers.js';
import { showAddress } from './peers.js';
import { shortMethod } from './words.js';

/** Removes the part that the state column already shows. */
function plain(because) {
  return because
    .replace(/^(ejected \([a-z_]+\)|back from an ejection \([a-z_]+\)|connecting failed): /, '')
    .replace(/\.$/, '');
}

export function showClusters(container, clusters) {
  sync(container, clusters, ({ name }) => name, createCluster, updateCluster);
}

const EXPECTED =
  'The expected time to an answer: the latest peak, which decays while answers arrive. A failure counts as a slow answer, and a waiting call counts with the time that it has waited';

function createCluster({ name }) {
  const title = element('h3', 'name');
  breakable(title, name);
  const figures = element('p', 'cluster-figures');
  const circuits = element('ul', 'circuits');
  const rows = element('tbody');
  const heads = ['Endpoint', 'State', 'In flight', 'Expected', 'Answered'];
  const head = element(
    'tr',
    '',
    ...heads.map((text) => Object.assign(element('th', '', text), { scope: 'col' })),
  );
  head.children[3].title = EXPECTED;
  const caption = element('caption', 'hidden', `Endpoints of ${name}`);
  const table = element('table', '', caption, element('thead', '', head), rows);
  const more = element('p', 'empty');
  const card = element('article', 'card', element('div', 'card-head', title, figures), circuits, table, more);
  card.parts = { figures, circuits, rows, more };
  return card;
}

function updateCluster({ parts }, cluster) {
  const { traffic, balancer, active_calls: active, usable_count: usable, endpoint_count: all } = cluster;
  const minute = traffic?.last_minute;
  const { retried = 0, success = 0 } = cluster.retries;
  const figures = [
    `${usable} of ${all} in service`,
    balancer.replaceAll('_', ' '),
    `${count(active)} in flight`,
  ];
  if (minute?.calls > 0) {
    figures.push(`${rate(traffic.calls_per_s)} calls/s`, `${rate(traffic.errors_per_s)} errors/s`);
    if (traffic.refused_per_s > 0) figures.push(`${rate(traffic.refused_per_s)} refused/s`);
    figures.push(`p50 ${latency(minute.p50_ms)}, p99 ${latency(minute.p99_ms)}`);
  }
  if (retried > 0) figures.push(`${count(retried)} retries, ${count(success)} calls saved`);
  setText(parts.figures, figures.join(' · '));
  showCircuits(parts.circuits, cluster);
  sync(parts.rows, rowsOf(cluster.endpoints), ({ key }) => key, createRow, updateRow);
  const hidden = all - cluster.endpoints.length;
  parts.more.hidden = hidden === 0;
  setText(parts.more, hidden === 0 ? '' : `and ${count(hidden)} more; /clusters lists all of them`);
}

/** Shows each circuit that is not closed, and the number of closed ones. */
function showCircuits(list, { circuits, circuit_count: all, closed_count: closed }) {
  const notClosed = circuits.filter(({ state }) => state !== 'closed');
  const items = notClosed.map((circuit) => ({ key: circuit.method, ...circuit }));
  const others = all - closed - notClosed.length;
  if (others > 0) items.push({ key: 'others', state: 'open', others });
  if (closed > 0) items.push({ key: '', state: 'closed', closed });
  sync(
    list,
    items,
    ({ key }) => key,
    () => element('li'),
    (item, circuit) => {
      setClass(item, `circuit ${circuit.state}`);
      setText(item, describeCircuit(circuit));
    },
  );
}

function closedCircuits(number) {
  return number === 1 ? 'Circuit closed' : `${number} circuits closed`;
}

function describeCircuit(circuit) {
  if (circuit.others > 0)
    return `and ${count(circuit.others)} more circuits that are not closed; /clusters lists all of them`;
  return circuit.state === 'closed' ? closedCircuits(circuit.closed) : describeNotClosed(circuit);
}

function describeNotClosed({ method, state, because, half_open_in_ms: left, rejections, probes }) {
  const when =
    state === 'open'
      ? left > 0
        ? `, half-open in ${span(left / 1000)}`
        : ', and the next call probes it'
      : `, ${count(probes)} ${probes === 1 ? 'probe is' : 'probes are'} in flight`;
  const turnedAway = rejections > 0 ? `, ${count(rejections)} calls rejected` : '';
  return `Circuit ${state}: ${shortMethod(method)}${when}${turnedAway}; ${because}`;
}

/** An endpoint has a row, and a second one that explains its state. */
function rowsOf(endpoints) {
  return endpoints.flatMap((endpoint) => {
    const row = { key: endpoint.address, endpoint };
    return endpoint.because === ''
      ? [row]
      : [row, { key: `${endpoint.address} because`, because: plain(endpoint.because) }];
  });
}

function createRow({ endpoint }) {
  if (endpoint === undefined) {
    const cell = element('td', '');
    cell.colSpan = 5;
    const row = element('tr', 'because', cell);
    row.cells_ = [cell];
    return row;
  }
  const address = Object.assign(element('th', 'address'), { scope: 'row' });
  showAddress(address, endpoint.address);
  const cells = [
    element('td', 'state'),
    element('td', 'number'),
    element('td', 'number'),
    element('td', 'number'),
  ];
  const row = element('tr', 'endpoint', address, ...cells);
  row.cells_ = cells;
  return row;
}

function updateRow(row, { endpoint, because }) {
  if (endpoint === undefined) {
    setText(row.cells_[0], because);
    return;
  }
  const [state, active, time, answered] = row.cells_;
  const { condition: word, tone } = endpoint;
  const left = endpoint.ejected_for_ms;
  setClass(state, `state ${tone}`);
  setText(
    state,
    left > 0
      ? `${word}, ${left > 86_400_000 ? 'until its health check passes' : `${span(left / 1000)} left`}`
      : word,
  );
  const waiting = endpoint.pending_calls > 0 ? ` + ${count(endpoint.pending_calls)} waiting` : '';
  setText(active, `${count(endpoint.active_calls)}${waiting}`);
  setText(time, endpoint.latency_ms === null ? '–' : duration(endpoint.latency_ms));
  const { OK: ok = 0, ...others } = endpoint.attempts;
  const failed = Object.values(others).reduce((sum, number) => sum + number, 0);
  setText(answered, failed === 0 ? `${count(ok)} OK` : `${count(ok)} OK, ${count(failed)} with an error`);
  answered.title = Object.entries(endpoint.attempts)
    .map(([status, number]) => `${status} ${number}`)
    .join(', ');
}
