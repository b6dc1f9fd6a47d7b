// The replicas: their state, their state at the gateway's sidecar, and the actions on them.

const MAX_HAPPENED = 40;
const ACTIONS = [
  ['kill', 'Kill'],
  ['stop', 'Stop'],
  ['slow', 'Slow'],
  ['restore', 'Restore'],
];
const DONE = { kill: 'killed', stop: 'stopped', slow: 'slowed down', restore: 'restored' };

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** The route of a task: the differences of the gateway's sidecar's counters between two states, failures first. */
export function routeBetween(before, after) {
  const steps = [];
  for (const { name, seen } of after.replicas) {
    const old = before.replicas.find((one) => one.name === name)?.seen?.attempts ?? {};
    for (const [status, count] of Object.entries(seen?.attempts ?? {})) {
      const grown = count - (old[status] ?? 0);
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

/** Describes a replica's state at the gateway's sidecar, and whether the sidecar sends calls there. */
function describeSeen(seen) {
  if (seen === null) return { words: 'unknown', tone: 'quiet' };
  const { usable, service, ejected_for_ms: left } = seen;
  const because = seen.because.replace(/^(ejected|back from an ejection) \([a-z_]+\): /, '');
  if (service === 'ejected') {
    const seconds = left > 0 ? `, ${Math.round(left / 1000)} s left` : '';
    return { words: `ejected${seconds}`, why: because, tone: 'bad' };
  }
  if (because.startsWith('connecting failed')) return { words: 'unreachable', why: because, tone: 'bad' };
  if (seen.condition === 'no sign of life') return { words: seen.condition, tone: 'bad' };
  if (service === 'probation')
    return { words: 'on probation: it gets a few calls', why: because, tone: 'warn' };
  if (!usable) return { words: 'not usable', why: because, tone: 'bad' };
  return { words: 'in service', why: because, tone: 'good' };
}

const TONES = { running: 'good', slow: 'warn', starting: 'warn' };

export class SystemView {
  /** @param say receives a line for the list of events; act(name, action) runs an action on a replica */
  constructor(list, { say, act }) {
    this.list = list;
    this.say = say;
    this.act = act;
    this.cards = new Map();
    this.known = new Map();
  }

  show(report) {
    for (const replica of report.replicas) {
      let card = this.cards.get(replica.name);
      if (card === undefined) {
        card = this.createCard(replica);
        this.cards.set(replica.name, card);
        this.list.append(card.item);
      }
      this.update(card, replica);
      this.tell(replica);
    }
  }

  createCard({ name, type, dashboard }) {
    const state = element('span', 'state');
    const process = element('p', 'quiet');
    const seen = element('p', '');
    const why = element('p', 'quiet why');
    const numbers = element('p', 'quiet');
    const own = element('p', 'quiet');
    const buttons = element('p', 'buttons');
    const byAction = new Map();
    for (const [action, label] of ACTIONS) {
      const button = element('button', action === 'restore' ? 'main' : '', label);
      button.type = 'button';
      button.setAttribute('aria-label', `${label} ${name}`);
      button.addEventListener('click', () => this.press(name, action));
      buttons.append(button);
      byAction.set(action, button);
    }
    const title = element('h3', '', name);
    const link = element('a', '', 'dashboard of its sidecar');
    link.href = dashboard;
    const foot = element('p', '', ...(dashboard === '' ? [] : [link]));
    const item = element(
      'li',
      'card',
      element('div', 'head', title, state),
      process,
      seen,
      why,
      numbers,
      own,
      buttons,
      foot,
    );
    item.dataset.type = type;
    return { item, state, process, seen, why, numbers, own, buttons: byAction };
  }

  update(card, { address, state, pid, seen, notReadyBecause }) {
    card.item.className = `card ${state}`;
    card.state.className = `state ${TONES[state] ?? 'bad'}`;
    setText(card.state, state);
    setText(card.process, `${address}${pid === undefined ? ', no process' : `, process ${pid}`}`);
    const { words, why = '', tone } = describeSeen(seen);
    card.seen.className = `seen ${tone}`;
    setText(card.seen, `Gateway’s sidecar: ${words}`);
    setText(card.why, why);
    card.why.hidden = why === '';
    if (seen !== null) {
      const { OK: ok = 0, ...others } = seen.attempts;
      const failed = Object.values(others).reduce((sum, count) => sum + count, 0);
      const errors = failed === 0 ? '' : `, ${failed} with errors`;
      setText(card.numbers, `calls: ${ok} OK${errors}, ${seen.active_calls} in flight`);
    }
    setText(card.own, notReadyBecause === '' ? 'Own sidecar: ready' : `Own sidecar: ${notReadyBecause}`);
    for (const [action, button] of card.buttons) {
      const useless =
        action === 'restore'
          ? state === 'running'
          : state === 'killed' || state === 'ended' || DOES[state] === action;
      // Not disabled: the button would lose the focus while the state changes.
      button.setAttribute('aria-disabled', String(useless));
    }
  }

  async press(name, action) {
    const card = this.cards.get(name);
    if (card.buttons.get(action).getAttribute('aria-disabled') === 'true') return;
    this.say(`You ${DONE[action]} ${name}.`, action === 'restore' ? 'good' : 'warn');
    try {
      await this.act(name, action);
    } catch (error) {
      this.say(`${name} could not be ${DONE[action]}: ${error.message}`, 'bad');
    }
  }

  /** Reports a change of a replica's state at the gateway's sidecar. */
  tell({ name, seen }) {
    const { words, why = '', tone } = describeSeen(seen);
    const what = words.replace(/, \d+ s left$/, '');
    const before = this.known.get(name);
    this.known.set(name, what);
    if (before === undefined || before === what || seen === null) return;
    this.say(`Gateway’s sidecar: ${name} is ${what}${why === '' ? '' : ` (${why})`}.`, tone);
  }
}

/** The action that led to a state. */
const DOES = { killed: 'kill', stopped: 'stop', slow: 'slow' };

/** Adds a line with the time, and removes the oldest. */
export function happened(list, text, tone) {
  const now = new Date();
  const time = element('time', '', now.toLocaleTimeString([], { hour12: false }));
  time.dateTime = now.toISOString();
  list.prepend(element('li', tone, time, ' ', text));
  while (list.childElementCount > MAX_HAPPENED) list.lastElementChild.remove();
}
