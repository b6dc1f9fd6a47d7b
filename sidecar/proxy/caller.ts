import type { Socket } from 'node:net';
import type { StreamConnection } from '../http2/streams.ts';
import { CallerCalls } from '../policy/admission-queue.ts';
import { Holder } from '../policy/fair-places.ts';

/**
 * A caller of a listener: one identity, or without one an address, however many connections it has. What callers share (calls,
 * watches, questions about health) is counted for each of them.
 *
 * `authorization` and the like do not count here: who wants more than one share could make up as many of them as it likes.
 */
export class Caller {
  /** The name in its certificate, or its address. */
  readonly name: string;
  readonly calls = new CallerCalls();
  /** Of health. */
  readonly watches = new Holder();
  /** About the health of the app's own services, not answered yet. */
  readonly questions = new Holder();
  /** Open ones; only {@link Callers} writes it. */
  connections = 0;

  constructor(name: string) {
    this.name = name;
  }

  get holdsNothing(): boolean {
    const { active, waiting } = this.calls;
    return active.held + waiting.held + this.watches.held + this.questions.held === 0;
  }
}

/** The callers of a listener that are connected, or have calls that go on without a connection (`TaskRun.outlives`). */
export class Callers {
  private readonly byName = new Map<string, Caller>();
  /** Those that have no connection. */
  private readonly left = new Set<Caller>();

  get size(): number {
    return this.byName.size;
  }

  /** A connection of this caller has come. Must be paired with `leave`. */
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
    // It is remembered while it holds places: who connects anew has no second share.
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

/** Whose connection nobody has told. */
const SOMEBODY = new Caller('');

export function callerOf({ caller }: StreamConnection): Caller {
  return (caller as Caller | undefined) ?? SOMEBODY;
}

/** An IPv4 address is written as one, whatever the listener is. */
export function addressOf({ remoteAddress }: Socket): string {
  if (remoteAddress === undefined) return 'a local socket';
  return remoteAddress.startsWith('::ffff:') ? remoteAddress.slice(7) : remoteAddress;
}
