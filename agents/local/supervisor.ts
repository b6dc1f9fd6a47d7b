import { ManagedProcess, type ProcessDescription } from './process.ts';
import type { SystemProcesses } from './processes.ts';

/** How long the whole system may take to be ready; a slow machine needs a good part of it. */
const startLimitMs = 60_000;

/** How long each process may take to end; tasks in flight may use 3 s of it. */
const stopLimitMs = 5000;

export interface SupervisorListener {
  /** A line that a process logged. */
  onLine?: (name: string, line: string) => void;
  /** A process of the running system ended that nobody stopped. While it starts, `start` reports that. */
  onEnded?: (name: string, how: string, lastWords: string) => void;
}

/**
 * Starts and stops the processes of a local system.
 *
 *   start:  agents and provider → sidecars → gateway       each group once the one before is ready
 *   stop:   gateway → sidecars → agents and provider        so that tasks in flight find their way to the end
 */
export class Supervisor {
  readonly #listener: SupervisorListener;
  #groups: ManagedProcess[][] = [];
  #started = false;
  #stopping = false;

  constructor(listener: SupervisorListener = {}) {
    this.#listener = listener;
    // Whatever happens to this process, nothing of the system stays: see also end-with-parent.ts.
    process.once('exit', () => this.kill());
  }

  /** @throws Error naming the process that ended or was not ready in time, with its last log lines */
  async start({ agents, sidecars, gateway }: SystemProcesses): Promise<void> {
    const limit = AbortSignal.timeout(startLimitMs);
    for (const group of [agents, sidecars, [gateway]]) {
      const started = group.map((description) => this.#spawn(description));
      this.#groups.push(started);
      await Promise.all(started.map((one) => one.ready(limit)));
    }
    this.#started = true;
  }

  /** The names of the processes that had to be killed. */
  async stop(): Promise<string[]> {
    this.#stopping = true;
    const killed: string[] = [];
    for (const group of this.#groups.toReversed()) {
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
    this.#stopping = true;
    for (const one of this.#groups.flat()) if (one.isRunning) one.kill();
  }

  #spawn(description: ProcessDescription): ManagedProcess {
    if (this.#stopping) throw new Error('the system is stopping');
    const started = new ManagedProcess(description, this.#listener.onLine);
    void started.ended.then((how) => {
      if (this.#started && !this.#stopping) this.#listener.onEnded?.(started.name, how, started.lastWords());
    });
    return started;
  }
}
