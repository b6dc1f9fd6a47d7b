// Shows the first screen: numbers, the topology around this sidecar, the last ten minutes and the calls in flight.
import { showFigures } from '/shared/figures.js';
import { HistoryChart } from '/shared/history.js';
import { count, duration, latency, percent, rate } from '/shared/numbers.js';
import { Rates } from '/shared/rates.js';
import { Table } from '/shared/tables.js';
import { Topology } from '/shared/topology.js';
import { attemptsOf, graphOf } from './graph.js';
import { named } from './peers.js';
import { shortMethod } from './words.js';

const SHOWN_CALLS = 50;

export class Overview {
  /** @param boxes the elements of the page, by their use */
  constructor({ numbers, topology, history, running, find }) {
    this.numbers = numbers;
    this.topology = new Topology(topology);
    this.rates = new Rates();
    this.chart = new HistoryChart(history);
    this.find = find;
    this.asking = false;
    this.running = new Table(running, {
      caption: 'Calls in flight, the oldest first',
      empty: 'No call is in flight at this moment.',
      columns: [
        { title: 'Age', of: ({ age_ms: ms }) => duration(ms) },
        { title: 'Method', of: ({ method }) => shortMethod(method) },
        { title: 'Task', of: ({ task_id: task }) => task || '–' },
        { title: 'Attempt', of: ({ attempts, state }) => `${attempts}, ${state.replaceAll('_', ' ')}` },
        { title: 'Endpoint', of: ({ way }) => named(way.at(-1)?.endpoint ?? '–') },
      ],
    });
  }

  show(snapshot, events) {
    this.rates.add(attemptsOf(snapshot), performance.now());
    const busiest = [...snapshot.listeners].sort(
      (one, other) => other.total_requests - one.total_requests,
    )[0];
    showFigures(this.numbers, figuresOf(snapshot, busiest));
    this.topology.show(graphOf(snapshot, (key) => this.rates.of(key)));
    this.chart.show(busiest.history, events);
    void this.showRunning();
  }

  /** Asks for the running calls once for each snapshot; a hidden page gets none. */
  async showRunning() {
    if (this.asking) return;
    this.asking = true;
    try {
      const text = this.find.value.trim();
      const lists = [await ask(`/calls?limit=${SHOWN_CALLS}`)];
      // More may run than the list shows.
      if (text !== '') lists.push(await ask(`/calls?limit=${SHOWN_CALLS}&task=${encodeURIComponent(text)}`));
      const seen = new Map();
      for (const call of lists.flatMap(({ calls }) => calls)) {
        const matches = [call.task_id, call.correlation_id].some((id) => id.includes(text));
        const id = `${call.listener} ${call.method} ${call.task_id} ${call.caller}`;
        if (matches) seen.set(call.task_id === '' ? `${id} ${seen.size}` : id, call);
      }
      const rows = [...seen]
        .map(([id, call]) => ({ id, ...call }))
        .sort((one, other) => other.age_ms - one.age_ms);
      this.running.show(
        rows,
        text === '' ? 'No call is in flight at this moment.' : 'No call in flight has this task id.',
      );
    } catch {
      // The connection's own line says that the sidecar does not answer.
    } finally {
      this.asking = false;
    }
  }
}

async function ask(path) {
  const response = await fetch(path, { signal: AbortSignal.timeout(4000) });
  return response.ok ? response.json() : { calls: [] };
}

function figuresOf({ tasks }, { total_ok: ok, total_errors: errors, total_refused: refused, traffic }) {
  const own = tasks.succeeded + tasks.failed > 0;
  const [good, failed, turned] = own ? [tasks.succeeded, tasks.failed, 0] : [ok, errors, refused];
  const bad = failed + turned;
  const parts = [`${count(failed)} failed`, ...(turned > 0 ? [`${count(turned)} refused`] : [])];
  const share = bad === 0 ? 'none failed' : `${parts.join(', ')}, ${percent(good / (good + bad))} OK`;
  const perS = traffic === null ? '' : ` · ${rate(traffic.calls_per_s)}/s`;
  return [
    {
      label: own ? 'Tasks OK' : 'Calls OK',
      value: count(good),
      detail: (good + bad === 0 ? 'none yet' : share) + perS,
      tone: bad > 0 ? 'warn' : '',
    },
    {
      label: 'Saved by retries',
      value: count(tasks.saved_by_retries),
      detail: 'failed once, then succeeded',
      tone: tasks.saved_by_retries > 0 ? 'accent' : '',
    },
    {
      label: 'Runs not paid for twice',
      value: count(tasks.joined + tasks.replayed),
      detail: `${count(tasks.joined)} joined, ${count(tasks.replayed)} replayed`,
    },
    {
      label: 'Tokens used',
      value: count(tasks.useful_tokens),
      detail: `${count(tasks.wasted_tokens)} wasted`,
    },
    { label: 'p95', value: latency(traffic?.last_minute.p95_ms), detail: 'of the last minute' },
  ];
}
