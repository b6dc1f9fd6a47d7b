/**
 * Steps of state machines. A machine has a type that names its states, a drawing, and one table of the drawing's arrows; it
 * changes its state by {@link step} alone. A machine that every call has keeps its state as an object ({@link statesOf}) and
 * uses {@link move}: a look-up in a table for each step took 3 % of the CPU time of a call.
 *
 * A step without an arrow is a defect. In tests it throws. The running sidecar has named a reporter
 * ({@link reportIllegalSteps}): it logs the defect and the machine keeps its state, so that a defect never ends the process.
 */
import { TypedError } from './typed-error.ts';

/** From each state, the states that may follow it. */
export type Arrows<State extends string> = Readonly<Record<State, readonly State[]>>;

export class IllegalStepError extends TypedError {
  readonly source = 'ours';
  readonly isSafeToRetry = false;

  constructor(from: string, to: string) {
    super(`a state machine must not go from ${from} to ${to}; report this as a defect, with its stack`);
    this.name = 'IllegalStepError';
  }
}

let report: ((error: IllegalStepError) => void) | undefined;
/** Each wrong step is reported once: a defect in a loop must not fill the log. */
const reported = new Set<string>();

/** From now on illegal steps are reported, and no longer thrown. */
export function reportIllegalSteps(reporter: (error: IllegalStepError) => void): void {
  report = reporter;
}

/**
 * Returns the state after a step.
 *
 * @returns `to` where the table has the arrow; otherwise `from`, after the report
 * @throws IllegalStepError when the table lacks the arrow and the process has no reporter
 */
export function step<State extends string>(arrows: Arrows<State>, from: State, to: State): State {
  return arrows[from].includes(to) ? to : refuse(from, to);
}

/** A state of a machine that every call has. */
export interface StateOf<State extends string> {
  readonly name: State;
  /** The state's own bit. */
  readonly bit: number;
  /** The bits of the states that may follow. */
  readonly next: number;
}

/** Makes the states of a table. At most 31 of them fit into the bits. */
export function statesOf<State extends string>(
  arrows: Arrows<State>,
): Readonly<Record<State, StateOf<State>>> {
  const names = Object.keys(arrows) as State[];
  const bitOf = (name: State): number => 1 << names.indexOf(name);
  const states = names.map((name): [State, StateOf<State>] => [
    name,
    { name, bit: bitOf(name), next: arrows[name].reduce((bits, to) => bits | bitOf(to), 0) },
  ]);
  return Object.fromEntries(states) as Record<State, StateOf<State>>;
}

/** Does what {@link step} does, for states of {@link statesOf}. */
export function move<State extends string>(from: StateOf<State>, to: StateOf<State>): StateOf<State> {
  if ((from.next & to.bit) !== 0) return to;
  refuse(from.name, to.name);
  return from;
}

/** @returns `from` */
function refuse<State extends string>(from: State, to: State): State {
  const error = new IllegalStepError(from, to);
  if (report === undefined) throw error;
  const key = `${from} ${to}`;
  if (!reported.has(key)) {
    reported.add(key);
    report(error);
  }
  return from;
}
