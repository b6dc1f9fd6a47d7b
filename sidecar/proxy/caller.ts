/** The callers of a listener, and what each of them holds. */
import type { Socket } from 'node:net';
import type { StreamConnection } from '../http2/streams.ts';
import { CallerCalls } from '../policy/admission-queue.ts';
import { Holder } from '../policy/fair-places.ts';

/**
 * One caller of a listener: an identity or, without one, an address, with all its connections. Calls, watches and
 * health questions are shared among callers, and counted for each of them.
 *
 * `authorization` and similar fields do not count here: a client could invent as many values as it wants shares.
 */
export class Caller {
  /** The name in the caller's certificate, or its address. */
  readonly name: string;
  readonly calls = new CallerCalls();
  /** Health watches. */
  readonly watches = new Holder();
  /** Open questions about the health of the app's own services. */
  readonly questions = new Holder();
  /** Open calls of `outrigger.v1.Tasks`, and those that watch a task. */
  readonly tasks = new Holder();
  readonly taskWatches = new Holder();
  /** Open connections; only {@link Callers} writes it. */
  connections = 0;

  /** Its calls of agents that have places of their own, by agent type. The configuration names these. */
  private byAgentType: Map<string, CallerCalls> | undefined = undefined;

  constructor(name: string) {
    this.name = name;
  }

  /** @param agentType '' for the calls of agents without places of their own */
  callsOf(agentType: string): CallerCalls {
    if (agentType === '') return this.calls;
    this.byAgentType ??= new Map();
    let calls = this.byAgentType.get(agentType);
    if (calls === undefined) {
      calls = new CallerCalls();
      this.byAgentType.set(agentType, calls);
    }
    return calls;
  }

  get holdsNothing(): boolean {
    const { watches, questions, tasks, taskWatches } = this;
    const calls = [this.calls, ...(this.byAgentType?.values() ?? [])];
    const holders = calls.flatMap(({ active, waiting }) => [active, waiting]);
    return [...holders, watches, questions, tasks, taskWatches].every(({ held }) => held === 0);
  }
}

/** The callers of a listener that are connected, or have calls that continue without a connection (`TaskRun.outlives`). */
export class Callers {
  private readonly byName = new Map<string, Caller>();
  /** The callers that have no connection. */
  private readonly left = new Set<Caller>();

  get size(): number {
    return this.byName.size;
  }

  /** Counts a new connection of this caller. Each `arrive` must be paired with a `leave`. */
  arrive(name: string): Caller {
    this.forgetLeft();
    let caller = this.byName.get(name);
    if (caller === undefined) {
      caller = new Caller(name);
      this.byName.set(name, caller);
    }
    this.left.delete(caller);
    caller.connections++;
    return caller;
  }

  leave(caller: Caller): void {
    if (--caller.connections > 0) return;
    // Keep the caller while it holds places, so that a reconnect gives it no second share.
    this.left.add(caller);
    this.forgetLeft();
  }

  private forgetLeft(): void {
    for (const caller of this.left) {
      if (!caller.holdsNothing) continue;
      this.left.delete(caller);
      this.byName.delete(caller.name);
    }
  }
}

/** The caller of a connection that was never registered. */
const SOMEBODY = new Caller('');

export function callerOf({ caller }: StreamConnection): Caller {
  return (caller as Caller | undefined) ?? SOMEBODY;
}

/** Writes an IPv4 address in its own form, also on an IPv6 listener. */
export function addressOf({ remoteAddress }: Socket): string {
  if (remoteAddress === undefined) return 'a local socket';
  return remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress;
}
