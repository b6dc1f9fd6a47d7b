// Shows what /clusters, /stats and /ready say, anew every two seconds, and /events as they come.
// Everything is put in as text, never as HTML: names in it come from the configuration and from peers.

const REFRESH_MS = 2000;
const MAX_EVENTS = 100;

const ready = document.querySelector('#ready');
const events = document.querySelector('#events');

/** An element with children; strings become text. */
function element(name, ...children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

const isObject = (value) => typeof value === 'object' && value !== null;

/** A list of alike objects as a table, an object as rows, anything else as text. */
function show(value) {
  if (Array.isArray(value)) {
    if (value.length === 0) return 'none';
    return value.every((item) => isObject(item) && !Array.isArray(item)) ? table(value) : value.join(', ');
  }
  if (isObject(value)) {
    const rows = Object.entries(value).map(([name, inner]) => {
      return element('tr', element('th', name), element('td', show(inner)));
    });
    return rows.length === 0 ? 'none' : element('table', element('tbody', ...rows));
  }
  if (typeof value === 'number') return String(Math.round(value * 1000) / 1000);
  return value === null || value === undefined ? '–' : String(value);
}

function table(items) {
  const names = [...new Set(items.flatMap((item) => Object.keys(item)))];
  const head = element('tr', ...names.map((name) => element('th', name)));
  const rows = items.map((item) => element('tr', ...names.map((name) => element('td', show(item[name])))));
  return element('table', element('thead', head), element('tbody', ...rows));
}

async function refresh() {
  try {
    for (const name of ['clusters', 'stats']) {
      const response = await fetch(`/${name}`);
      document.querySelector(`#${name}`).replaceChildren(show(await response.json()));
    }
    const { ok, reason } = await (await fetch('/ready')).json();
    ready.textContent = ok ? 'ready' : `not ready: ${reason}`;
    ready.className = ok ? 'good' : 'bad';
  } catch {
    ready.textContent = 'the sidecar does not answer';
    ready.className = 'bad';
  }
  setTimeout(refresh, REFRESH_MS);
}

new EventSource('/events').addEventListener('message', ({ data }) => {
  const { at, type, message } = JSON.parse(data);
  const time = element('time', new Date(at).toLocaleTimeString());
  time.dateTime = at;
  events.prepend(element('li', time, ` ${type}: ${message}`));
  while (events.childElementCount > MAX_EVENTS) events.lastElementChild.remove();
});

refresh();
