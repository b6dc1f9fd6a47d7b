// Shows failed calls, each with its attempts, and events.
import { breakable, element, setText, sync } from '/shared/elements.js';
import { duration, timeOf } from '/shared/numbers.js';
import { named, showAddress } from './peers.js';
import { explainReason, explainVerdict, shortMethod } from './words.js';

const MAX_CALLS = 50;
/** Calls that failed only because of earlier failures (an open circuit) do not displace those. */
const MAX_CONSEQUENCES = 10;
const MAX_EVENTS = 100;
const NO_CALLS = 'No call has failed so far. Calls that failed, or that a retry saved, appear here.';

/** Keeps the newest items of a growing list, by id, newest first. */
export class Latest {
  constructor(most) {
    this.most = most;
    this.items = [];
  }

  /** Skips known items: each connection begins with all of them. */
  add(added) {
    const newest = this.items[0]?.id ?? 0;
    const fresh = added.filter(({ id }) => id > newest).sort((a, b) => b.id - a.id);
    const left = { false: this.most, true: MAX_CONSEQUENCES };
    this.items = [...fresh, ...this.items].filter(({ consequence = false }) => left[consequence]-- > 0);
  }

  clear() {
    this.items = [];
  }
}

export const calls = new Latest(MAX_CALLS);
export const events = new Latest(MAX_EVENTS);

function timeElement(at) {
  const date = new Date(at);
  const time = element('time', '', timeOf(date));
  time.dateTime = at;
  time.title = date.toLocaleString();
  return time;
}

/** @param task shows the calls alone whose task id contains this text */
export function showCalls(list, empty, task = '') {
  const shown = task === '' ? calls.items : calls.items.filter(({ task_id: id }) => id.includes(task));
  empty.hidden = shown.length > 0;
  setText(empty, calls.items.length === 0 ? NO_CALLS : 'No failed call has this task id.');
  sync(
    list,
    shown,
    ({ id }) => id,
    (call) => element('li', 'entry', createCall(call)),
    () => {},
  );
}

function createCall(call) {
  const ok = call.status === 'OK';
  const saved = ok && call.way.at(-1)?.outcome !== 'failure';
  const status = element('span', `status ${saved ? 'saved' : 'bad'}`);
  const words = [ok ? 'OK, but the task failed' : call.status, call.reason].filter(Boolean).join(' ');
  status.textContent = saved ? 'OK, saved by a retry' : words;
  const method = element('span', 'method');
  breakable(method, shortMethod(call.method));
  const tried = call.attempts === 1 ? '1 attempt' : `${call.attempts} attempts`;
  const rest = [call.cluster || 'no cluster', tried, duration(call.elapsed_ms)].join(' · ');
  const summary = element('summary', '', timeElement(call.at), status, method, element('span', 'rest', rest));
  return element('details', 'call', summary, createWay(call));
}

function createWay(call) {
  const body = element('div', 'way');
  const why = explainReason(call.reason);
  if (why !== '') body.append(element('p', '', why));
  if (call.task_id !== '') body.append(element('p', 'rest', `Task ${call.task_id}`));
  if (call.way.length === 0) {
    body.append(element('p', 'rest', 'The sidecar made no attempt.'));
    return body;
  }
  const list = element('ol', '');
  for (const attempt of call.way) list.append(createAttempt(attempt, call.elapsed_ms));
  body.append(list);
  return body;
}

/** An attempt, with a bar that shows when in the call it ran. */
function createAttempt(attempt, callMs) {
  const endpoint = element('span', 'address');
  showAddress(endpoint, attempt.endpoint);
  const status = element(
    'span',
    `status ${attempt.outcome === 'success' ? 'saved' : attempt.outcome === 'failure' ? 'bad' : 'neutral'}`,
  );
  status.textContent = attempt.status;
  const peer = attempt.peer_reason === '' ? '' : ` (${attempt.peer_reason})`;
  const words = element(
    'span',
    'verdict',
    `${explainVerdict(attempt.verdict)}${peer}, after ${duration(attempt.elapsed_ms)}`,
  );
  const bar = element('span', `bar ${attempt.outcome}`);
  const share = (ms) => `${Math.min(Math.max((ms / Math.max(callMs, 1)) * 100, 0), 100)}%`;
  bar.style.setProperty('margin-left', share(Math.min(attempt.after_ms, callMs * 0.98)));
  bar.style.setProperty(
    'width',
    share(Math.min(Math.max(attempt.elapsed_ms, callMs * 0.02), callMs - attempt.after_ms)),
  );
  bar.setAttribute('aria-hidden', 'true');
  const item = element('li', 'attempt', endpoint, status, words, element('span', 'track', bar));
  item.value = attempt.number;
  return item;
}

/** Returns the severity of an event, by its own fields. */
export function toneOf({ type, details }) {
  if (type === 'circuit') return details.to === 'open' ? 'bad' : details.to === 'closed' ? 'good' : 'warn';
  if (type === 'ejection') return details.kind === 'ejected' ? 'bad' : 'good';
  if (type === 'endpoint') return details.usable ? 'good' : 'bad';
  if (type === 'state') return details.state === 'running' ? 'good' : 'warn';
  if (type === 'discovery') return 'warn';
  return 'neutral';
}

export function showEvents(list, empty) {
  empty.hidden = events.items.length > 0;
  sync(
    list,
    events.items,
    ({ id }) => id,
    (event) => {
      const message = element('span', 'message');
      setText(message, named(event.message));
      return element(
        'li',
        `entry event ${toneOf(event)}`,
        timeElement(event.at),
        element('span', 'type', event.type),
        message,
      );
    },
    () => {},
  );
}
