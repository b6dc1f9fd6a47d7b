// Shows the tasks on the bus with their states and runs, submits one, and follows it over the loss of its replica.
import { element, setText } from '/shared/elements.js';
import { duration } from '/shared/numbers.js';
import { Table } from '/shared/tables.js';
import { shortId } from './system.js';

const MAX_SHOWN = 20;
/** The local system lets the offline provider answer it slowly (agents/local/long-task.ts). */
const LONG_TASK = { input: 'Tell a long story about a message bus', agent_type: 'research' };
const PATH = '/api/v1/tasks';

const toneOf = { dead: 'bad', running: 'accent', done: 'good' };

export class BusView {
  /** @param boxes the elements of the page by their use */
  constructor({ box, count, submit, tasks, story, answer }) {
    this.box = box;
    this.count = count;
    this.submitButton = submit;
    this.story = story;
    this.answer = answer;
    // It scrolls, so the keyboard has to reach it.
    answer.tabIndex = 0;
    this.events = undefined;
    this.isWithoutBus = false;
    this.table = new Table(tasks, {
      caption: 'Tasks on the bus, the latest first',
      empty: 'No task was submitted yet.',
      columns: [
        { title: 'Age', of: ({ submitted_at: at }) => duration(Math.max(0, Date.now() - Date.parse(at))) },
        { title: 'Task', of: ({ task_id: id }) => shortId(id) },
        { title: 'Agent', of: ({ agent_type: type }) => type },
        {
          title: 'State',
          of: ({ state }) => state,
          toneOf: ({ state }) => toneOf[state] ?? '',
        },
        {
          title: 'Run',
          of: ({ run, lost_runs: lost }) => (lost === 0 ? String(run) : `${run}, ${lost} lost`),
          toneOf: ({ lost_runs: lost }) => (lost > 0 ? 'warn' : ''),
        },
        { title: 'Replica', of: ({ runner = '' }) => runner },
      ],
    });
    submit.addEventListener('click', () => void this.submit());
  }

  /** Reads the list. A system without a bus has none, and shows no box: it has none later, either. */
  async refresh() {
    if (this.isWithoutBus) return;
    const response = await fetch(`${PATH}?limit=${MAX_SHOWN}`, { signal: AbortSignal.timeout(5000) });
    this.isWithoutBus = response.status === 501;
    this.box.hidden = this.isWithoutBus;
    if (!response.ok) return;
    const { tasks } = await response.json();
    const of = (state) => tasks.filter((task) => task.state === state).length;
    setText(this.count, `${of('queued')} wait, ${of('running')} run`);
    this.table.show(tasks.map((task) => ({ id: task.task_id, ...task })));
  }

  async submit() {
    this.submitButton.disabled = true;
    try {
      const response = await fetch(PATH, {
        method: 'POST',
        headers: { 'content-type': 'application/json', prefer: 'respond-async' },
        body: JSON.stringify(LONG_TASK),
      });
      const body = await response.json();
      if (response.status !== 202) throw new Error(body.error?.message ?? response.statusText);
      this.follow(body.task_id);
      await this.refresh();
    } catch (error) {
      this.story.replaceChildren(element('li', 'bad', `Not submitted: ${error.message}`));
    } finally {
      this.submitButton.disabled = false;
    }
  }

  /** An EventSource comes back by itself with the id of its last event, also to another gateway. */
  follow(id) {
    this.events?.close();
    const events = new EventSource(`${PATH}/${id}/events`);
    this.events = events;
    this.story.replaceChildren();
    setText(this.answer, '');
    const on = (name, tell) => events.addEventListener(name, ({ data }) => tell(JSON.parse(data)));
    on('state', ({ state, runner, run }) => {
      if (state === 'queued')
        this.say(
          run === 0 ? 'It waits for a replica.' : 'Its replica is gone: it waits for another.',
          run === 0 ? '' : 'warn',
        );
      else this.say(`${runner ?? 'A replica'} runs it (run ${run}).`, '');
    });
    on('run', () => setText(this.answer, ''));
    on('chunk', ({ chunk }) => this.answer.append(chunk));
    on('done', ({ state, run, error }) => {
      events.close();
      if (error === undefined) this.say(`Done in run ${run}.`, 'good');
      else this.say(`It is ${state}: ${error.message}`, 'bad');
    });
  }

  say(text, tone) {
    this.story.append(element('li', tone, text));
  }
}
