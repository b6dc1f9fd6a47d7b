// What the callers, the agent and the provider of a known mix have seen: the truth that all telling is held to.

export interface Timed {
  /** Of the mix, which is played twice: 1 or 2. */
  readonly round: number;
  /** For so long the agent or the provider had it, and for so long the caller waited: what lies between tells a time in between. */
  readonly leastMs: number;
  readonly mostMs: number;
}

/** A call that came to the caller's sidecar. */
export interface MadeCall extends Timed {
  /** '' for one that has come to no cluster. */
  readonly cluster: string;
  /** The path. */
  readonly method: string;
  readonly code: string;
  /** Their statuses. */
  readonly attempts: readonly string[];
  /** Which sidecar ends it first is a race, as in {@link ServedCall}. */
  readonly isRace: boolean;
}

/** A call that came to the agent's sidecar. */
export interface ServedCall extends Timed {
  readonly method: string;
  code: string;
  /** Which sidecar ends it first is a race: where the caller's does, the agent's sees it leave. */
  readonly isRace: boolean;
  /** How the agent ended it; undefined where it was not asked. */
  readonly atApp: string | undefined;
}

export interface ToldTask {
  readonly round: number;
  readonly status: string;
  readonly tokens: number;
  readonly use: 'useful' | 'wasted';
}

export interface ModelRequest extends Timed {
  /** '' where nobody was asked. */
  readonly upstream: string;
  readonly model: string;
  readonly operation: string;
  readonly stream: boolean;
  readonly outcome: string;
  /** HTTP's, that the caller got; 0 for none. */
  readonly status: number;
  /** What became of each, as the provider answered it. */
  readonly attempts: readonly string[];
  /** Attempts whose answers began, and were no refusals. */
  readonly begun: number;
  readonly input: number;
  readonly output: number;
  /** Of the task that it was made for; '' without one. */
  readonly taskId: string;
  /** Nobody counts the tokens of an answer that was broken off: there are some. */
  readonly wastes: boolean;
}

export class Ledger {
  readonly made: MadeCall[] = [];
  readonly served: ServedCall[] = [];
  readonly tasks: ToldTask[] = [];
  /** Of tasks that came again, by what became of them. */
  readonly again: { readonly round: number; readonly outcome: string }[] = [];
  readonly models: ModelRequest[] = [];
  /** Of the caller's sidecar, on other attempts than the first. */
  readonly decisions: {
    readonly round: number;
    readonly kind: 'retries' | 'hedges';
    readonly cluster: string;
    readonly outcome: string;
  }[] = [];
  /** What the caller's sidecar took out of service, and has not put back: circuits with the calls that they turned away. */
  readonly opened: {
    readonly round: number;
    readonly cluster: string;
    readonly method: string;
    turnedAway: number;
  }[] = [];
  readonly ejected: { readonly round: number; readonly cluster: string; readonly reason: string }[] = [];
  /** Connections that came to nothing: one, and those that were tried again by themselves. */
  readonly unconnected: {
    readonly round: number;
    readonly cluster: string;
    readonly reason: string;
    readonly most: number;
  }[] = [];
  /** Calls that a sidecar answered itself. */
  readonly rejected: {
    readonly round: number;
    readonly service: Service;
    readonly listener: string;
    readonly reason: string;
  }[] = [];

  /** Of one round only. */
  of(round: number): Ledger {
    const part = new Ledger();
    const own = <T extends { round: number }>(all: T[]): T[] => all.filter((one) => one.round === round);
    part.made.push(...own(this.made));
    part.served.push(...own(this.served));
    part.tasks.push(...own(this.tasks));
    part.again.push(...own(this.again));
    part.models.push(...own(this.models));
    part.rejected.push(...own(this.rejected));
    part.decisions.push(...own(this.decisions));
    part.opened.push(...own(this.opened));
    part.ejected.push(...own(this.ejected));
    part.unconnected.push(...own(this.unconnected));
    return part;
  }

  /** What this sidecar tells of. */
  ofService(service: Service): Ledger {
    const part = new Ledger();
    part.rejected.push(...this.rejected.filter((one) => one.service === service));
    if (service === 'caller') {
      part.made.push(...this.made);
      part.decisions.push(...this.decisions);
      part.opened.push(...this.opened);
      part.ejected.push(...this.ejected);
      part.unconnected.push(...this.unconnected);
      return part;
    }
    part.served.push(...this.served);
    part.tasks.push(...this.tasks);
    part.again.push(...this.again);
    part.models.push(...this.models);
    return part;
  }

  /** Of a round's races the agent's sidecar has ended so many itself; the others it saw leave. */
  settleRaces(round: number, struck: number): void {
    let left = struck;
    for (const call of this.served)
      if (call.isRace && call.round === round) call.code = left-- > 0 ? 'DEADLINE_EXCEEDED' : 'CANCELLED';
  }
}

export type Service = 'caller' | 'research';

/** Methods that nobody has answered share a name, so that invented ones make no series. */
export function labelOf({ method, code }: { readonly method: string; readonly code: string }): string {
  return code === 'UNIMPLEMENTED' ? '_OTHER' : method.slice(1);
}

/** Statuses that say that the system failed, and not that a caller did, or left. */
const ERRORS = ['UNKNOWN', 'DEADLINE_EXCEEDED', 'INTERNAL', 'UNAVAILABLE', 'DATA_LOSS'];

export const isError = ({ code }: { readonly code: string }): boolean => ERRORS.includes(code);

/** What is true of one number: itself, from and to, or why nobody can know. */
export type Truth = number | readonly [from: number, to: number] | { readonly unknown: string };

/** @param share by which a number may differ that was reckoned and not counted */
export function complaint(truth: Truth, value: number, share = 0): string | undefined {
  if (typeof truth === 'object' && 'unknown' in truth)
    return Number.isFinite(value) && value >= 0 ? undefined : `${value} is none`;
  const [from, to] = typeof truth === 'number' ? [truth, truth] : truth;
  if (value >= from * (1 - share) && value <= to * (1 + share)) return undefined;
  return `${value}, and ${from === to ? from : `from ${from} to ${to}`} is true`;
}
