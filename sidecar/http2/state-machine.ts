/**
 * State machines whose states change with each call: a state is a small integer in a field of its owner, and a step is one
 * look-up in a table.
 */

/** The legal steps: for each state, the next state for each event that may occur in it. */
export type Transitions<State extends string, Event extends string> = {
  readonly [From in State]: { readonly [On in Event]?: State };
};

/** The shift of a state's number in a table: a machine has at most four events. */
export const EVENT_BITS = 2;
/** The entry of an illegal step in a table. */
export const REFUSED = 0xff;

/** The table of a machine: its entry `state << EVENT_BITS | event` is the number of the next state, or {@link REFUSED}. */
export function stepsOf<State extends string, Event extends string>(
  states: readonly State[],
  events: readonly Event[],
  transitions: Transitions<State, Event>,
): Uint8Array {
  const steps = new Uint8Array(states.length << EVENT_BITS).fill(REFUSED);
  for (const [from, state] of states.entries()) {
    for (const [on, event] of events.entries()) {
      const next = transitions[state][event];
      if (next !== undefined) steps[(from << EVENT_BITS) | on] = states.indexOf(next);
    }
  }
  return steps;
}

/** The illegal steps of all machines. Each is a defect of ours; the tests read them. */
export const refusedSteps = { count: 0, latest: '' };

/**
 * Counts an illegal step. The machine keeps its state. It does not throw, because an exception would end a connection that
 * the calls of many callers share.
 */
export function refuse(machine: string, state: string, event: string): void {
  refusedSteps.count++;
  refusedSteps.latest = `${machine}: ${event} in state ${state}`;
}
