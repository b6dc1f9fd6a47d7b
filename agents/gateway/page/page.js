// The gateway's page: sends tasks and shows their answers; in a local system it also shows and breaks replicas.
import { happened, routeBetween, SystemView, stepToModel } from './system.js';
import { showSent, streamTask } from './tasks.js';

const REFRESH_MS = 1000;

const at = (id) => document.querySelector(`#${id}`);
const form = at('task');
const answer = at('answer');
const outcome = at('outcome');
const cancel = at('cancel');
const keep = at('keep');
const submit = form.querySelector('[type=submit]');

/** The type of agent to which the local system keeps sending tasks; '' for none. */
let sendingTo = '';

const view = new SystemView(at('replicas'), {
  say: (text, tone) => happened(at('happened'), text, tone),
  act: (name, action) => command(`replicas/${name}/${action}`),
});

/** Sends a command to the local system, and shows the resulting state. */
async function command(path) {
  const response = await fetch(`/local/${path}`, { method: 'POST' });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? body.error ?? response.statusText);
  showSystem(body);
}

async function readState() {
  const response = await fetch('/local/state', { signal: AbortSignal.timeout(5000) });
  return response.json();
}

/** The route of a task, from the increase of the counters; unavailable while other tasks of this page run. */
async function routeOf(before) {
  if (!before.local || sendingTo !== '') return [];
  const after = await readState();
  return after.local ? routeBetween(before, after) : [];
}

function showRoute(steps) {
  for (const step of steps) {
    const item = document.createElement('li');
    item.textContent = step;
    at('route').append(item);
  }
}

form.addEventListener('submit', async (event) => {
  event.preventDefault();
  const leave = new AbortController();
  cancel.onclick = () => leave.abort();
  answer.textContent = '';
  at('route').replaceChildren();
  outcome.textContent = 'Running';
  submit.disabled = true;
  cancel.disabled = false;
  let before = { local: false };
  try {
    if (sendingTo === '') before = await readState();
    const task = Object.fromEntries(new FormData(form));
    const done = await streamTask(task, leave.signal, (chunk) => {
      answer.textContent += chunk;
    });
    showRoute(await routeOf(before));
    outcome.textContent = `Done in ${done.latency_ms} ms, task ${done.task_id}`;
  } catch (error) {
    if (leave.signal.aborted) {
      outcome.textContent = 'Cancelled';
    } else {
      showRoute([...(await routeOf(before).catch(() => [])), ...stepToModel(error.model)]);
      outcome.textContent = `Failed: ${error.message}`;
    }
  } finally {
    submit.disabled = false;
    cancel.disabled = true;
  }
});

keep.addEventListener('click', async () => {
  try {
    await command(`sending/${sendingTo === '' ? form.elements.agent_type.value : 'off'}`);
  } catch (error) {
    happened(at('happened'), `The local system refused: ${error.message}`, 'bad');
  }
});

/** Outside of a local system: shows the agents' own health. */
async function showAgents() {
  const agents = await (await fetch('/api/v1/health')).json();
  const rows = Object.entries(agents).map(([type, { agent_name: name, version, healthy, error }]) => {
    const row = document.createElement('tr');
    for (const text of [type, name, version, healthy ? 'healthy' : (error ?? 'not healthy')]) {
      row.insertCell().textContent = text ?? '';
    }
    return row;
  });
  at('agents').replaceChildren(...rows);
  showTypes(Object.keys(agents));
}

function showTypes(types) {
  const select = form.elements.agent_type;
  if (select.options.length === 0) select.replaceChildren(...types.map((type) => new Option(type)));
}

async function showLinks() {
  for (const { name, url } of await (await fetch('/page/links')).json()) {
    const link = Object.assign(document.createElement('a'), { href: url, textContent: name });
    const item = document.createElement('li');
    item.append(link);
    at('links').append(item);
  }
}

function showSystem(report) {
  const { offline, url } = report.model;
  at('about').textContent = offline
    ? 'The local system. No OPENAI_API_KEY is set: the offline provider builds answers from the words of the question.'
    : `The local system. The agents send model requests to ${url}.`;
  for (const id of ['try', 'legend', 'sent-box', 'keep']) at(id).hidden = false;
  at('agents-table').hidden = true;
  showTypes([...new Set(report.replicas.map(({ type }) => type))]);
  at('watch').hidden = report.gatewayDashboard === '';
  at('gateway-dashboard').href = report.gatewayDashboard;
  view.show(report);
  sendingTo = report.sent.to;
  showSent(at('strip'), at('sent'), report.sent);
  keep.setAttribute('aria-pressed', String(sendingTo !== ''));
  keep.textContent = sendingTo === '' ? 'Keep sending' : 'Stop sending';
}

function connected(is) {
  const words = is ? 'live' : 'the local system does not answer';
  if (at('connection').textContent !== words) at('connection').textContent = words;
  at('connection').className = `connection ${is ? 'live' : 'lost'}`;
}

/** Refreshes every second while the page is visible. */
async function refresh() {
  try {
    if (document.visibilityState === 'visible') {
      const report = await readState();
      if (!report.local) throw new Error(report.error?.message ?? 'not local');
      showSystem(report);
      connected(true);
    }
  } catch {
    connected(false);
  }
  setTimeout(refresh, REFRESH_MS);
}

await showLinks();
if ((await readState()).local === false) await showAgents();
else void refresh();
