/** A stream's states (RFC 9113 §5.1) and their steps. */
import { EVENT_BITS, REFUSED, refuse, stepsOf, type Transitions } from './state-machine.ts';

/** By their numbers, whose order lets `Stream` answer most questions with one comparison. */
const STATES = ['open', 'halfClosedLocal', 'halfClosedRemote', 'ended', 'closed', 'reset'] as const;
const EVENTS = ['endReceived', 'endSent', 'close'] as const;

/**
 * The states of an HTTP/2 stream (RFC 9113 §5.1). An idle stream is an id without an object. The reserved states are missing,
 * because push is off on both sides.
 *
 *                      HEADERS, either way │
 *                                          ▼
 *                                         open
 *                          END_STREAM sent │ END_STREAM received
 *                         ┌────────────────┴───────────────┐
 *                         ▼                                ▼
 *                  halfClosedLocal                 halfClosedRemote
 *                         │ END_STREAM received            │ END_STREAM sent
 *                         └──────────────▶ ended ◀─────────┘
 *                                            │ close
 *                                            ▼
 *                                          closed
 *
 *        open, halfClosedLocal, halfClosedRemote ──close──▶ reset
 *
 * The RFC's "closed" is three states here. `ended`: both sides have sent END_STREAM, and the handler still receives the last
 * event. `closed`: the connection has removed the ended stream. `reset`: the connection has removed a stream that had not
 * ended, because either side has reset it or the connection was lost.
 */
export type StreamState = (typeof STATES)[number];

/** `close`: the connection removes the stream. */
export type StreamEvent = (typeof EVENTS)[number];

/** The arrows of the drawing. */
const TRANSITIONS: Transitions<StreamState, StreamEvent> = {
  open: { endSent: 'halfClosedLocal', endReceived: 'halfClosedRemote', close: 'reset' },
  halfClosedLocal: { endReceived: 'ended', close: 'reset' },
  halfClosedRemote: { endSent: 'ended', close: 'reset' },
  ended: { close: 'closed' },
  closed: {},
  reset: {},
};

const STEPS = stepsOf(STATES, EVENTS, TRANSITIONS);

/**
 * The number of the state after an event. An illegal step changes nothing, and is counted as a defect of ours
 * ({@link refuse}).
 */
export function nextStreamState(state: number, event: number): number {
  const next = STEPS[(state << EVENT_BITS) | event]!;
  if (next !== REFUSED) return next;
  refuse('stream', nameOfState(state), EVENTS[event]!);
  return state;
}

export function numberOfState(state: StreamState): number {
  return STATES.indexOf(state);
}

export function numberOfEvent(event: StreamEvent): number {
  return EVENTS.indexOf(event);
}

export function nameOfState(state: number): StreamState {
  return STATES[state]!;
}
