// The gateway's page: in a local system it shows the topology and breaks replicas; anywhere it sends tasks.
import { setClass, setText } from '/shared/elements.js';
import { BusView } from './bus.js';
import { FoundTasks } from './found.js';
import { routeBetween, SystemView, showStrip, stepToModel } from './system.js';
import { streamTask } from './tasks.js';

const REFRESH_MS = 1000;

const at = (id) => document.querySelector(`#${id}`);
const form = at('task');
const answer = at('answer');
const outcome = at('outcome');
const cancel = at('cancel');
const keep = at('keep');
const submit = form.querySelector('[type=submit]');

/** The latest report of the local system. */
let latest;

const view = new SystemView(
  {
    numbers: at('numbers'),
    topology: at('topology'),
    history: at('history'),
    running: at('running'),
    events: at('happened'),
  },
  (name, action) => run(`replicas/${name}/${action}`),
);
// They scroll, so the keyboard has to reach them.
for (const box of document.querySelectorAll('.scroll')) box.tabIndex = 0;
const bus = new BusView({
  box: at('bus-box'),
  count: at('bus-count'),
  submit: at('bus-submit'),
  tasks: at('bus-tasks'),
  story: at('bus-story'),
  answer: at('bus-answer'),
});
const found = new FoundTasks(at('find'), at('found'), () => latest);

/** Sends a command to the local system, and shows the resulting state. */
async function command(path) {
  const response = await fetch(`/local/${path}`, { method: 'POST' });
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? body.error ?? response.statusText);
  showSystem(body);
}

/** The command that a user gave; the page says when it failed. */
async function run(path) {
  try {
    await command(path);
    if (at('notice').dataset.from === 'command') notice('');
  } catch (error) {
    notice(`The local system refused: ${error.message}`, 'command');
  }
}

function notice(text, from = '') {
  at('notice').hidden = text === '';
  at('notice').dataset.from = from;
  setText(at('notice'), text);
}

async function readState() {
  const response = await fetch('/local/state', { signal: AbortSignal.timeout(5000) });
  return response.json();
}

/** The route of a task, from the increase of the counters; unknown while other tasks of this page run. */
async function routeOf(before) {
  if (!before.local) return [];
  if (latest?.sent.sending) return ['Pause the tasks above to see the route of a single one.'];
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
  const task = Object.fromEntries(new FormData(form));
  const startedMs = performance.now();
  let before = { local: false };
  try {
    before = await readState();
    const done = await streamTask(task, leave.signal, (chunk) => {
      answer.textContent += chunk;
    });
    showRoute(await routeOf(before));
    outcome.textContent = `Done in ${done.latency_ms} ms, task ${done.task_id}`;
    found.add(endedTask(task, done.task_id, done.latency_ms));
  } catch (error) {
    if (leave.signal.aborted) {
      outcome.textContent = 'Cancelled';
    } else {
      showRoute([...(await routeOf(before).catch(() => [])), ...stepToModel(error.model)]);
      outcome.textContent = `Failed: ${error.message}`;
      if (error.taskId)
        found.add(endedTask(task, error.taskId, performance.now() - startedMs, error.message));
    }
  } finally {
    submit.disabled = false;
    cancel.disabled = true;
  }
});

function endedTask({ agent_type: agent }, taskId, ms, error = '') {
  return { taskId, agent, state: error === '' ? 'succeeded' : 'failed', ms, error };
}

keep.addEventListener('click', () => run(`sending/${latest?.sent.sending ? 'off' : 'on'}`));

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
  latest = report;
  const { offline, url } = report.model;
  setText(
    at('about'),
    offline
      ? 'Local system. No OPENAI_API_KEY is set: an offline provider composes the answers.'
      : `Local system. The agents send model requests to ${url}.`,
  );
  for (const id of ['live', 'legend', 'keep', 'find-box']) at(id).hidden = false;
  at('agents-box').hidden = true;
  showTypes([...new Set(report.replicas.map(({ type }) => type))]);
  view.show(report);
  setText(at('running-count'), report.running.count === 0 ? '' : String(report.running.count));
  showStrip(at('strip'), at('sent'), report.sent);
  showSending(report.sent, url);
  found.refresh();
}

function showSending({ sending, costs, total }, url) {
  setText(keep, sending ? 'Pause tasks' : costs ? 'Send tasks: they cost money' : 'Send tasks');
  setClass(keep, sending ? '' : 'main');
  at('cost').hidden = !costs;
  setText(
    at('cost'),
    sending
      ? `Four tasks a second go to ${url}, and your provider charges for them.`
      : `Tasks go to ${url} with your key and cost money, so ${total === 0 ? 'none starts by itself' : 'they are paused'}: press “Send tasks” to begin.`,
  );
}

function connected(is) {
  const words = is ? 'live' : 'the local system does not answer';
  if (at('connection').textContent !== words) at('connection').textContent = words;
  at('connection').className = `connection ${is ? 'live' : 'lost'}`;
}

const isVisible = () => document.visibilityState === 'visible';

/** Refreshes every second while the page is visible. */
async function refresh() {
  try {
    if (isVisible()) {
      const report = await readState();
      if (!report.local) throw new Error(report.error?.message ?? 'not local');
      showSystem(report);
      connected(true);
      await bus.refresh();
      if (!report.sent.sending && !report.sent.paused && !report.sent.costs) await command('sending/auto');
    }
  } catch {
    connected(false);
  }
  setTimeout(refresh, REFRESH_MS);
}

await showLinks();
if ((await readState()).local === false) await showAgents();
else void refresh();
