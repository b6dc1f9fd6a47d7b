// Finds tasks by their id: those in flight, and those that the local system has sent in the last minutes.
import { duration } from '/shared/numbers.js';
import { Table } from '/shared/tables.js';

const WAIT_MS = 250;
/** The tasks that were sent from this page. */
const MAX_OWN = 50;

export class FoundTasks {
  /** @param report returns the latest report of the local system */
  constructor(form, box, report) {
    this.input = form.elements.text;
    this.report = report;
    this.finished = [];
    this.own = [];
    this.asked = '';
    this.table = new Table(box, {
      caption: 'Tasks that were found',
      empty: '',
      columns: [
        { title: 'Task', of: ({ id }) => id },
        { title: 'State', of: ({ state }) => state, toneOf: ({ tone }) => tone },
        { title: 'What happened', of: ({ what }) => what },
      ],
    });
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.ask();
    });
    this.input.addEventListener('input', () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.ask(), WAIT_MS);
    });
    this.refresh();
  }

  /** A task of this page has ended: { taskId, agent, state, ms, error }. */
  add(task) {
    this.own = [task, ...this.own].slice(0, MAX_OWN);
    this.refresh();
  }

  get text() {
    return this.input.value.trim().replace(/^…/, '');
  }

  async ask() {
    const { text } = this;
    this.asked = text;
    // Ids have these characters only.
    const tasks = /^[\w-]+$/.test(text)
      ? (await (await fetch(`/local/tasks/${encodeURIComponent(text)}`)).json()).tasks
      : [];
    if (this.asked !== text) return;
    this.finished = tasks ?? [];
    this.refresh();
  }

  /** Shows the running calls of the latest report, and the finished tasks of the latest question. */
  refresh() {
    const { text } = this;
    if (text === '') {
      this.table.show([], 'Running and finished tasks of the last minutes appear here.');
      return;
    }
    const report = this.report();
    const running = (report?.running.calls ?? [])
      .filter(({ task_id: id }) => id.includes(text))
      .map(({ task_id: id, age_ms: age, attempts, state, way }) => ({
        id,
        state: 'running',
        tone: '',
        what: `${state.replaceAll('_', ' ')} for ${duration(age)}, attempt ${attempts}, at ${way.at(-1)?.endpoint ?? 'no endpoint'}`,
      }));
    const known = new Set(running.map(({ id }) => id));
    const ended = [...this.own.filter(({ taskId }) => taskId.includes(text)), ...this.finished]
      .filter(({ taskId, state }) => state !== 'running' && !known.has(taskId))
      .map(({ taskId: id, agent, state, ms, error }) => ({
        id,
        state,
        tone: state === 'succeeded' ? 'good' : 'bad',
        what: [`${agent}, ${duration(ms)}`, error, attemptsOf(report, id)].filter(Boolean).join('; '),
      }));
    this.table.show([...running, ...ended], 'No task of the last minutes has this id.');
  }
}

/** The line of the events that names the attempts of a task, if one of them failed. */
function attemptsOf(report, id) {
  return report?.events.find(({ task }) => task === id)?.message ?? '';
}
