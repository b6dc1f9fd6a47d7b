/** Starts and stops the processes of the local system in order. */
import { ManagedProcess, type ProcessDescription } from './process.ts';
import type { SystemProcesses } from './processes.ts';

/** The time until the whole system is ready; a slow machine needs a good part of it. */
const startLimitMs = 60_000;

/** The time for each process to end; tasks in flight may use 3 s of it. */
const stopLimitMs = 5000;

export interface SupervisorListener {
  /** A line that a process logged. */
  onLine?: (name: string, line: string) => void;
  /** A process of the running system ended unexpectedly. During the start, `start` reports that. */
  onEnded?: (name: string, how: string, lastWords: string) => void;
}

/**
 * The processes of a local system start and stop in this order:
 *
 *   start:  agents and provider → sidecars → gateway       each group once the one before is ready
 *   stop:   gateway → sidecars → agents and provider        so that tasks in flight can finish
 */
export class Supervisor {
  private readonly listener: SupervisorListener;
  private groups: ManagedProcess[][] = [];
  private readonly expected = new WeakSet<ManagedProcess>();
  private started = false;
  private stopping = false;

  constructor(listener: SupervisorListener = {}) {
    this.listener = listener;
    // However this process ends, no process of the system stays: see also end-with-parent.ts.
    process.once('exit', () => this.kill());
  }

  /** @throws Error with the name of the process that ended or was not ready in time, and its last log lines */
  async start({ agents, sidecars, gateway }: SystemProcesses): Promise<void> {
    const limit = AbortSignal.timeout(startLimitMs);
    for (const group of [agents, sidecars, [gateway]]) {
      const started = group.map((description) => this.spawn(description));
      this.groups.push(started);
      await Promise.all(started.map((one) => one.ready(limit)));
    }
    this.started = true;
  }

  /** @throws Error for an unknown name */
  get(name: string): ManagedProcess {
    const found = this.groups.flat().find((one) => one.name === name);
    if (found === undefined) throw new Error(`unknown process "${name}"`);
    return found;
  }

  /** Ends a process on purpose, without a report of its end. */
  async end(name: string): Promise<void> {
    const one = this.get(name);
    this.expected.add(one);
    one.kill();
    await one.ended;
  }

  /**
   * Starts an ended process again.
   *
   * @throws Error with its last log lines, if it ends or is not ready in time
   */
  async startAgain(name: string): Promise<void> {
    const old = this.get(name);
    if (old.isRunning) return;
    const again = this.spawn(old.description);
    for (const group of this.groups) {
      const at = group.indexOf(old);
      if (at >= 0) group[at] = again;
    }
    await again.ready(AbortSignal.timeout(startLimitMs));
  }

  /** Resolves with the names of the processes that had to be killed. */
  async stop(): Promise<string[]> {
    this.stopping = true;
    const killed: string[] = [];
    for (const group of this.groups.toReversed()) {
      await Promise.all(
        group.map(async (one) => {
          if (!(await one.stop(stopLimitMs))) killed.push(one.name);
        }),
      );
    }
    return killed;
  }

  /** Ends everything at once. */
  kill(): void {
    this.stopping = true;
    for (const one of this.groups.flat()) if (one.isRunning) one.kill();
  }

  private spawn(description: ProcessDescription): ManagedProcess {
    if (this.stopping) throw new Error('the system is stopping');
    const started = new ManagedProcess(description, this.listener.onLine);
    void started.ended.then((how) => {
      if (this.started && !this.stopping && !this.expected.has(started))
        this.listener.onEnded?.(started.name, how, started.lastWords());
    });
    return started;
  }
}
