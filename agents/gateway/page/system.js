// Shows the report of the local system: numbers, topology, the last ten minutes, calls in flight and events.
import { element, setText, sync } from '/shared/elements.js';
import { showFigures } from '/shared/figures.js';
import { HistoryChart } from '/shared/history.js';
import { count, duration, latency, percent, rate, timeOf } from '/shared/numbers.js';
import { Rates } from '/shared/rates.js';
import { Table } from '/shared/tables.js';
import { Topology } from '/shared/topology.js';
import { attemptsOf, graphOf } from './graph.js';

/** The route of a task: the differences of the gateway's sidecar's counters between two states, failures first. */
export function routeBetween(before, after) {
  const steps = [];
  for (const { name, seen } of after.replicas) {
    const old = before.replicas.find((one) => one.name === name)?.seen?.attempts ?? {};
    for (const [status, number] of Object.entries(seen?.attempts ?? {})) {
      const grown = number - (old[status] ?? 0);
      if (grown > 0) steps.push({ name, status, grown });
    }
  }
  steps.sort((a, b) => (a.status === 'OK') - (b.status === 'OK'));
  return steps.map(({ name, status, grown }) => {
    const times = grown === 1 ? '' : ` (${grown} attempts)`;
    return `gateway → its sidecar → sidecar of ${name} → ${name}: ${status}${times}`;
  });
}

/** The last step of the route, if a model did not answer: the sidecars that the task passed, and the provider. */
export function stepToModel(failure) {
  if (failure === undefined) return [];
  const { way, upstream, path, status, reason, model } = failure;
  const through = way.length === 0 ? 'agent' : way.map((name) => `sidecar of ${name}`).join(' → ');
  const asked = [upstream || 'model provider', path, model && `(${model})`].filter(Boolean).join(' ');
  return [`${through} → ${asked}: ${status > 0 ? `HTTP ${status}` : reason || 'no answer'}`];
}

export class SystemView {
  /** @param boxes the elements of the page by their use; act(name, action) runs an action on a replica */
  constructor({ numbers, topology, history, running, events }, act) {
    this.numbers = numbers;
    this.events = events;
    this.rates = new Rates();
    this.topology = new Topology(topology, { act });
    this.chart = new HistoryChart(history);
    this.names = new Map();
    this.running = new Table(running, {
      caption: 'Calls in flight, the oldest first',
      empty: 'No call is in flight at this moment.',
      columns: [
        {
          title: 'Age',
          of: ({ age_ms: ms }) => duration(ms),
          toneOf: ({ age_ms: ms }) => (ms > 2000 ? 'warn' : ''),
        },
        { title: 'Method', of: ({ method }) => method.split('/').at(-1) },
        { title: 'Task', of: ({ task_id: id }) => shortId(id) },
        { title: 'Attempt', of: ({ attempts }) => String(attempts) },
        { title: 'Endpoint', of: ({ way }) => this.nameOf(way.at(-1)?.endpoint) },
      ],
    });
  }

  nameOf(address = '') {
    return this.names.get(address) ?? address;
  }

  show(report) {
    for (const { name, sidecarAddress } of report.replicas) this.names.set(sidecarAddress, name);
    this.rates.add(attemptsOf(report), performance.now());
    showFigures(this.numbers, figuresOf(report));
    this.topology.show(graphOf(report, (name) => this.rates.of(name)));
    this.chart.show(
      report.history,
      report.events.filter(({ marked }) => marked),
    );
    this.running.show(
      report.running.calls.map((call, at) => ({ id: call.task_id || `call ${at}`, ...call })),
    );
    showEvents(this.events, report.events);
  }
}

/** Ids of tasks begin with the time, and end with what distinguishes them. */
export function shortId(id) {
  return id.length > 12 ? `…${id.slice(-8)}` : id;
}

function figuresOf({ numbers, sent, history }) {
  const {
    succeeded,
    failed,
    saved,
    notRunTwice,
    usefulTokens,
    wastedTokens,
    p95_ms: p95,
  } = numbers ?? {
    ...sent,
    saved: 0,
    notRunTwice: 0,
    usefulTokens: 0,
    wastedTokens: 0,
    p95_ms: null,
  };
  const lately = history?.calls.at(-1) ?? null;
  const perS = lately === null ? '' : ` · ${rate((lately * 1000) / history.every_ms)} calls/s`;
  const ended = succeeded + failed;
  const share =
    ended === 0
      ? 'none yet'
      : failed === 0
        ? 'none failed'
        : `${count(failed)} failed, ${percent(succeeded / ended)} OK`;
  return [
    { label: 'Tasks OK', value: count(succeeded), detail: share + perS, tone: failed > 0 ? 'warn' : '' },
    {
      label: 'Saved by retries',
      value: count(saved),
      detail: 'failed once, then succeeded',
      tone: saved > 0 ? 'accent' : '',
    },
    { label: 'Runs not paid for twice', value: count(notRunTwice), detail: 'repeats got the first answer' },
    { label: 'Tokens used', value: count(usefulTokens), detail: `${count(wastedTokens)} wasted` },
    { label: 'p95', value: latency(p95), detail: 'of the last minute' },
  ];
}

function showEvents(list, events) {
  sync(
    list,
    events,
    ({ id }) => id,
    ({ at, tone, message, task }) => {
      const time = element('time', '', timeOf(new Date(at)));
      time.dateTime = at;
      const line = element('li', tone, time, ' ', element('span', '', message));
      if (task !== '') line.append(' ', element('span', 'quiet', shortId(task)));
      return line;
    },
    () => {},
  );
}

/** The tasks that the local system has sent lately: a square for each. */
export function showStrip(strip, summary, { sending, total, succeeded, failed, recent }) {
  while (strip.childElementCount > recent.length) strip.lastElementChild.remove();
  for (const [at, { state, ms, error }] of recent.entries()) {
    const square = strip.children[at] ?? strip.appendChild(document.createElement('li'));
    const look = state === 'succeeded' && ms > 2000 ? 'slow' : state;
    if (square.className !== look) square.className = look;
    square.title =
      state === 'running' ? 'running' : `${state} after ${ms} ms${error === '' ? '' : `: ${error}`}`;
  }
  const running = total - succeeded - failed;
  const parts = [`${succeeded} succeeded`, `${failed} failed`];
  if (running > 0) parts.push(`${running} running`);
  setText(
    summary,
    total === 0
      ? sending
        ? 'The first tasks are on their way.'
        : 'No tasks yet.'
      : `${total} sent: ${parts.join(', ')}.`,
  );
}
