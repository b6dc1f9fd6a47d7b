// The dashboard: shows the data of the live stream on the page.

import { setClass, setText } from '/shared/elements.js';
import { count, span, timeOf } from '/shared/numbers.js';
import { calls, events, showCalls, showEvents, toneOf } from './calls.js';
import { showClusters } from './clusters.js';
import { connect } from './connection.js';
import { showJournal } from './journal.js';
import { showLlm } from './llm.js';
import { showModels } from './models.js';
import { showNow } from './now.js';
import { Overview } from './overview.js';
import { setPeers } from './peers.js';
import { showTraffic } from './traffic.js';

/** The default of `version` in the configuration. */
const UNSET_VERSION = '0.0.0';

const at = (id) => document.querySelector(`#${id}`);
let instance;
let lostSinceMs;

const overview = new Overview({
  numbers: at('numbers'),
  topology: at('topology'),
  history: at('history'),
  running: at('running'),
  find: at('find'),
});
// They scroll, so the keyboard has to reach them.
for (const id of ['running', 'events']) at(id).tabIndex = 0;
at('find').addEventListener('input', () => {
  void overview.showRunning();
  showFailedCalls();
});

function showFailedCalls() {
  showCalls(at('calls'), at('no-calls'), at('find').value.trim());
}

/** The changes that explain a change of the curves. */
function marksOf() {
  return events.items
    .filter(({ type }) => type === 'ejection' || type === 'circuit')
    .map((event) => ({ id: event.id, at: event.at, tone: toneOf(event), message: event.message }));
}

function show(snapshot) {
  const {
    name,
    outrigger_version: version,
    uptime_s: uptime,
    resident_bytes: resident,
    app,
    not_ready_because: notReady,
  } = snapshot;
  setText(at('name'), name);
  document.title = `${name} · Outrigger`;
  const megabytes = Math.round(resident / 1_048_576);
  const appVersion = app.version === UNSET_VERSION ? '' : ` (app version ${app.version})`;
  setText(
    at('about'),
    `Outrigger ${version}, sidecar of ${name}${appVersion}${app.state === 'none' ? ' (no app of its own)' : ` at ${app.address}`} · up ${span(uptime)} · ${megabytes} MB`,
  );
  const good = notReady === '';
  setText(at('ready'), good ? 'ready' : snapshot.state === 'running' ? 'not ready' : 'draining');
  setClass(at('ready'), `pill ${good ? 'good' : 'bad'}`);
  setPeers(snapshot.peers);
  showNow(at('attention'), at('attention-said'), snapshot.now);
  overview.show(snapshot, marksOf());
  showEvents(at('events'), at('no-events'));
  showFailedCalls();
  showTraffic(at('traffic'), snapshot.listeners);
  // The cluster of the own app comes last, because the inbound card shows it, too.
  const [own, ...others] = snapshot.clusters;
  showClusters(at('clusters'), [...others, own]);
  showLlm(at('llm'), at('llm-cards'), snapshot.llm);
  showModels(at('llm-models'), at('llm-spending'), snapshot.llm);
  showJournal(at('journal'), at('journal-cards'), at('journal-differences'), snapshot.journal);
  const skipped = snapshot.failed_calls_skipped;
  at('skipped').hidden = skipped === 0;
  setText(
    at('skipped'),
    `The page left out ${count(skipped)} more that came too quickly; the metrics count all of them.`,
  );
}

function notice(text) {
  at('notice').hidden = text === '';
  setText(at('notice'), text);
}

connect({
  onHello(next) {
    if (instance !== undefined && instance !== next) {
      calls.clear();
      events.clear();
      showFailedCalls();
      showEvents(at('events'), at('no-events'));
      notice(
        `The sidecar was restarted; this page connected again at ${timeOf(new Date())}. The counts start at zero.`,
      );
    }
    instance = next;
  },
  onSnapshot: show,
  // They come with a snapshot, which names the endpoints.
  onEvents: (added) => events.add(added),
  onCalls: (added) => calls.add(added),
  onState(state, sinceMs) {
    document.body.classList.toggle('stale', state === 'lost' || state === 'silent');
    setClass(at('connection'), `connection ${state}`);
    const since = timeOf(new Date(sinceMs));
    const words = {
      connecting: 'connecting',
      live: 'live',
      paused: 'paused while hidden',
      silent: 'not answering',
      lost: 'no connection',
    };
    setText(at('connection'), words[state]);
    if (state === 'lost' || state === 'silent') {
      lostSinceMs = sinceMs;
      const what = state === 'lost' ? 'No connection to the sidecar' : 'The sidecar has sent nothing';
      notice(
        `${what} since ${since}. This page retries by itself and shows the last state that it received.`,
      );
    } else if (state === 'live' && lostSinceMs !== undefined) {
      lostSinceMs = undefined;
      if (!at('notice').textContent.startsWith('The sidecar was restarted')) notice('');
    }
  },
});
