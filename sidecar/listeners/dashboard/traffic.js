// Shows the cards of the listeners: rates, percentiles, and a chart of the last minute.
import { element, figure, setText, svg, sync } from '/shared/elements.js';
import { count, latency, rate } from '/shared/numbers.js';

const SECONDS = 60;
const WIDTH = 240;
const HEIGHT = 56;

const TITLES = {
  inbound: ['Inbound', 'from callers to this agent'],
  outbound: ['Outbound', 'from this agent to others'],
};

export function showTraffic(container, listeners) {
  sync(container, listeners, ({ name }) => name, createCard, updateCard);
}

function createCard({ name }) {
  const [title, about] = TITLES[name] ?? [name, ''];
  const figures = element('dl', 'figures');
  const chart = createChart();
  const rest = element('p', 'rest');
  const card = element(
    'article',
    'card',
    element('h3', '', title, ' ', element('small', '', about)),
    figures,
    chart.box,
    rest,
  );
  card.parts = {
    calls: figure(figures, 'Calls/s'),
    errors: figure(figures, 'Errors/s'),
    refused: figure(figures, 'Refused/s'),
    p50: figure(figures, 'p50'),
    p90: figure(figures, 'p90'),
    p99: figure(figures, 'p99'),
    active: figure(figures, 'In flight'),
    chart,
    rest,
  };
  return card;
}

function updateCard({ parts }, listener) {
  const { traffic } = listener;
  const minute = traffic?.last_minute;
  setText(parts.calls, traffic ? rate(traffic.calls_per_s) : '–');
  setText(parts.errors, traffic ? rate(traffic.errors_per_s) : '–');
  parts.errors.classList.toggle('bad', (traffic?.errors_per_s ?? 0) > 0);
  setText(parts.refused, traffic ? rate(traffic.refused_per_s) : '–');
  parts.refused.classList.toggle('bad', (traffic?.refused_per_s ?? 0) > 0);
  for (const name of ['p50', 'p90', 'p99']) setText(parts[name], latency(minute?.[`${name}_ms`]));
  setText(parts.active, count(listener.active_calls));
  const rejected = Object.entries(listener.rejected).map(([reason, number]) => `${reason} ${count(number)}`);
  const refused = listener.total_refused > 0 ? ` and ${count(listener.total_refused)} refused` : '';
  const since = `${count(listener.total_requests)} calls and ${count(listener.total_errors)} errors${refused} since the start`;
  const connections = `${count(listener.active_connections)} ${listener.active_connections === 1 ? 'connection' : 'connections'}`;
  setText(
    parts.rest,
    [
      listener.address,
      connections,
      since,
      ...(rejected.length > 0 ? [`the sidecar answered: ${rejected.join(', ')}`] : []),
    ].join(' · '),
  );
  updateChart(parts.chart, traffic?.calls ?? [], traffic?.errors ?? []);
}

/** Draws calls as an area with a line, and errors as an area in front of it. */
export function createChart() {
  const picture = svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
  const calls = svg('path', { class: 'calls-area' });
  const line = svg('path', { class: 'calls-line' });
  const errors = svg('path', { class: 'errors-area' });
  const base = svg('line', { class: 'base', x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 });
  picture.append(base, calls, line, errors);
  const most = element('span', 'most');
  return { box: element('div', 'chart', picture, most), picture, calls, line, errors, most };
}

export function updateChart({ picture, calls, line, errors, most }, callRates, errorRates) {
  const highest = Math.max(0, ...callRates, ...errorRates);
  // Round the highest value up, so that the scale does not jump with each call.
  const scale = roundUp(Math.max(highest, 1));
  const outline = points(callRates, scale);
  calls.setAttribute('d', area(outline));
  line.setAttribute('d', outline.length > 1 ? `M${outline.join('L')}` : '');
  errors.setAttribute('d', Math.max(0, ...errorRates) > 0 ? area(points(errorRates, scale)) : '');
  setText(most, `${count(scale)}/s`);
  picture.setAttribute(
    'aria-label',
    `Calls a second over the last minute: the highest rate is ${rate(highest)}, the present one ${rate(callRates.at(-1) ?? 0)}; errors a second at present: ${rate(errorRates.at(-1) ?? 0)}`,
  );
}

function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

/** The newest value is at the right. */
function points(rates, scale) {
  const step = WIDTH / (SECONDS - 1);
  return rates.map((value, i) => {
    const x = WIDTH - (rates.length - 1 - i) * step;
    const y = HEIGHT - 1 - (Math.max(value, 0) / scale) * (HEIGHT - 6);
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  });
}

function area(outline) {
  if (outline.length < 2) return '';
  const [first, last] = [outline[0], outline.at(-1)].map((point) => point.split(' ')[0]);
  return `M${first} ${HEIGHT}L${outline.join('L')}L${last} ${HEIGHT}Z`;
}
