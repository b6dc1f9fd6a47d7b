/** Events of the local system: actions of the page's user, the events of the gateway's sidecar, saved tasks. */
import type { CallView, EventView, LiveView } from './sidecar-view.ts';
import type { LocalSystem } from './system.ts';

/** One line of the page's list. */
export interface Happening {
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly at: string;
  readonly tone: 'good' | 'warn' | 'bad' | 'quiet';
  readonly message: string;
  /** The id of the task that it is about; '' if it is about none. */
  readonly task: string;
  /** Whether the chart marks it. */
  readonly marked: boolean;
}

const maxLines = 200;
const sentLines = 80;

/** Keeps the latest happenings, bounded, and names the agents beside their addresses. */
export class Happenings {
  private readonly names: readonly (readonly [address: string, name: string])[];
  private lines: Happening[] = [];
  private own = 0;
  private instance = '';
  private lastEvent = 0;
  private lastCall = 0;

  constructor({ agents }: LocalSystem) {
    this.names = agents.flatMap(({ name, sidecar }) =>
      sidecar === undefined ? [] : [[`127.0.0.1:${sidecar.inbound}`, name] as const],
    );
  }

  /** An action of the user, or its failure. */
  say(message: string, tone: Happening['tone']): void {
    const at = new Date().toISOString();
    this.add([{ id: `own-${++this.own}`, at, tone, task: '', message, marked: true }]);
  }

  /** Adds what is new since the last reading. */
  read({ instance, events, calls }: LiveView): void {
    // A restarted sidecar counts from 1.
    if (instance !== this.instance) [this.instance, this.lastEvent, this.lastCall] = [instance, 0, 0];
    const [event, call] = [this.lastEvent, this.lastCall];
    this.lastEvent = Math.max(event, ...events.map(({ id }) => id));
    this.lastCall = Math.max(call, ...calls.map(({ id }) => id));
    this.add([
      ...events.filter((one) => one.id > event && isShown(one)).map((one) => this.ofEvent(one)),
      ...calls.filter(({ id, way }) => id > call && way.length > 0).map((one) => this.ofCall(one)),
    ]);
  }

  /** Newest first. */
  latest(): readonly Happening[] {
    return this.lines.slice(0, sentLines);
  }

  private add(lines: Happening[]): void {
    if (lines.length === 0) return;
    this.lines = [...lines, ...this.lines]
      .sort((one, other) => other.at.localeCompare(one.at))
      .slice(0, maxLines);
  }

  private ofEvent({ id, at, type, message, details }: EventView): Happening {
    const tone = toneOf(type, details);
    const marked = type === 'ejection' || type === 'circuit';
    return { id: `event-${this.instance}-${id}`, at, tone, task: '', message: this.named(message), marked };
  }

  private ofCall({ id, at, status, way, task_id: task, elapsed_ms: ms, reason }: CallView): Happening {
    const saved = status === 'OK' && way.at(-1)?.outcome !== 'failure';
    const steps = way.map((attempt) => `${this.nameOf(attempt.endpoint)} ${attempt.status}`).join(', then ');
    const end = saved
      ? 'A retry saved a task'
      : `A task failed with ${[status, reason].filter(Boolean).join(' ')}`;
    return {
      id: `call-${this.instance}-${id}`,
      at,
      tone: saved ? 'good' : 'bad',
      task,
      message: `${end}: ${steps}, after ${Math.round(ms)} ms`,
      // The curve of success shows it, and many marks would hide the events.
      marked: false,
    };
  }

  private nameOf(address: string): string {
    return this.names.find(([known]) => known === address)?.[1] ?? address;
  }

  private named(message: string): string {
    return this.names.reduce(
      (text, [address, name]) => text.replaceAll(address, `${name} (${address})`),
      message,
    );
  }
}

const shownTypes: ReadonlySet<string> = new Set(['ejection', 'circuit', 'endpoint', 'reload', 'drain']);

/** The cluster `app` is the gateway itself, which has started after its sidecar. */
function isShown({ type, details }: EventView): boolean {
  return shownTypes.has(type) && details['cluster'] !== 'app';
}

function toneOf(type: string, details: EventView['details']): Happening['tone'] {
  if (type === 'circuit')
    return details['to'] === 'open' ? 'bad' : details['to'] === 'closed' ? 'good' : 'warn';
  if (type === 'ejection') return details['kind'] === 'ejected' ? 'bad' : 'good';
  if (type === 'endpoint') return details['usable'] === true ? 'good' : 'bad';
  return 'quiet';
}
