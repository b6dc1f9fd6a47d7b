/** A connection's states, from its preface to its closing, and their steps. */
import { EVENT_BITS, REFUSED, refuse, stepsOf, type Transitions } from './state-machine.ts';

const STATES = ['opening', 'open', 'announced', 'leaving', 'closed'] as const;
const EVENTS = ['settings', 'announce', 'leave', 'close'] as const;

export type ConnectionState = (typeof STATES)[number];
type ConnectionEvent = (typeof EVENTS)[number];

/** The arrows of the drawing. */
const TRANSITIONS: Transitions<ConnectionState, ConnectionEvent> = {
  opening: { settings: 'open', leave: 'leaving', close: 'closed' },
  open: { announce: 'announced', leave: 'leaving', close: 'closed' },
  announced: { leave: 'leaving', close: 'closed' },
  leaving: { leave: 'leaving', close: 'closed' },
  closed: {},
};

// Constants of this module, and not of another: V8 compiles them into the predicates.
const STEPS = stepsOf(STATES, EVENTS, TRANSITIONS);
const OPENING = STATES.indexOf('opening');
const OPEN = STATES.indexOf('open');
const ANNOUNCED = STATES.indexOf('announced');
const LEAVING = STATES.indexOf('leaving');
const CLOSED = STATES.indexOf('closed');
const SETTINGS = EVENTS.indexOf('settings');
const ANNOUNCE = EVENTS.indexOf('announce');
const LEAVE = EVENTS.indexOf('leave');
const CLOSE = EVENTS.indexOf('close');

/**
 * The state of a connection, from its preface (RFC 9113 §3.4) to its orderly end (§6.8).
 *
 *     opening ──SETTINGS──▶ open ──announce──▶ announced
 *        │                   │                     │ leave: our PING came back, or its time is up
 *        │ leave             │ leave               ▼
 *        └───────────────────┴─────────────────▶ leaving
 *
 *     leaving ──leave: a further GOAWAY──▶ leaving
 *     opening, open, announced, leaving ──close──▶ closed
 *
 * `opening`: the peer's first SETTINGS frame has not arrived. A client that receives GOAWAY instead leaves at once.
 * `announced`: a server has sent GOAWAY with the largest stream id, and still serves the calls that the peer sends before it
 * reads that. `leaving`: no new streams; the connection closes behind its last stream. A server has sent GOAWAY with its last
 * stream id; a client needs no GOAWAY, because it refuses no calls. A connection error closes from any state.
 *
 * An illegal step changes nothing, and is counted as a defect ({@link refuse}).
 */
export class ConnectionLifecycle {
  private current = OPENING;

  get state(): ConnectionState {
    return STATES[this.current]!;
  }

  get isOpening(): boolean {
    return this.current === OPENING;
  }

  /** The peer's first SETTINGS have arrived, and no side has begun to leave. */
  get isOpen(): boolean {
    return this.current === OPEN;
  }

  get isAnnounced(): boolean {
    return this.current === ANNOUNCED;
  }

  get isLeaving(): boolean {
    return this.current === LEAVING;
  }

  get closed(): boolean {
    return this.current === CLOSED;
  }

  /** The peer's first SETTINGS have arrived, and the connection has not closed. */
  get ready(): boolean {
    return this.current !== OPENING && this.current !== CLOSED;
  }

  /** The peer's first SETTINGS frame has arrived. */
  markOpen(): void {
    this.step(SETTINGS);
  }

  /** A server sends its first GOAWAY. */
  markAnnounced(): void {
    this.step(ANNOUNCE);
  }

  /** A server sends its last GOAWAY. A client receives GOAWAY, is shut down, or has used all stream ids. */
  markLeaving(): void {
    this.step(LEAVE);
  }

  protected markClosed(): void {
    this.step(CLOSE);
  }

  private step(event: number): void {
    const next = STEPS[(this.current << EVENT_BITS) | event]!;
    if (next === REFUSED) refuse('connection', this.state, EVENTS[event]!);
    else this.current = next;
  }
}
