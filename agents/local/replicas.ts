/** Breaks and restores the agents of a running local system. */
import type { Supervisor } from './supervisor.ts';

/**
 * The state of an agent's process:
 *
 *     running ──kill──▶ killed ──restore──▶ starting ──▶ running
 *        ├─────stop──▶ stopped ──restore──▶ running          it hangs: connections stay, nothing answers (SIGSTOP)
 *        ├─────slow──▶ slow ────restore──▶ running           every task waits first
 *        └──by itself──▶ ended ──restore──▶ starting ──▶ running
 */
export type ReplicaState = 'running' | 'killed' | 'stopped' | 'slow' | 'starting' | 'ended';

export const replicaActions = ['kill', 'stop', 'slow', 'restore'] as const;
export type ReplicaAction = (typeof replicaActions)[number];

/** A process that can be broken. Only agents know the signal that slows them down: others would end. */
interface Replica {
  readonly name: string;
  readonly types?: readonly string[];
}

/** The replicas of a running system, with the actions that break and restore them. */
export class Replicas {
  private readonly supervisor: Supervisor;
  private readonly replicas: readonly Replica[];
  private readonly states = new Map<string, ReplicaState>();
  /** Actions in progress: one at a time for each replica. */
  private readonly busy = new Map<string, Promise<void>>();

  constructor(supervisor: Supervisor, replicas: readonly Replica[]) {
    this.supervisor = supervisor;
    this.replicas = replicas;
  }

  has(name: string): boolean {
    return this.replicas.some((one) => one.name === name);
  }

  canBeSlow(name: string): boolean {
    return this.replicas.some((one) => one.name === name && (one.types?.length ?? 0) > 0);
  }

  stateOf(name: string): ReplicaState {
    const state = this.states.get(name) ?? 'running';
    const alive = this.supervisor.get(name).isRunning;
    return alive || state === 'killed' || state === 'starting' ? state : 'ended';
  }

  pidOf(name: string): number | undefined {
    const one = this.supervisor.get(name);
    return one.isRunning ? one.pid : undefined;
  }

  /**
   * Runs an action from any state: a slow replica that is to be stopped is restored first.
   *
   * @throws Error if a restarted process does not become ready, or one that can't be slowed down should be
   */
  act(name: string, action: ReplicaAction): Promise<void> {
    // The caller of a failed start receives its error.
    const before = this.busy.get(name)?.catch(() => {}) ?? Promise.resolve();
    const done = before.then(() => this.perform(name, action));
    this.busy.set(name, done);
    return done;
  }

  private async perform(name: string, action: ReplicaAction): Promise<void> {
    if (action === 'slow' && !this.canBeSlow(name))
      throw new Error(`${name} can't be slowed down; stop it or kill it`);
    const state = this.stateOf(name);
    const one = this.supervisor.get(name);
    if (action === 'kill') {
      this.states.set(name, 'killed');
      if (one.isRunning) await this.supervisor.end(name);
      return;
    }
    await this.restore(name, state);
    if (action === 'stop') {
      this.supervisor.get(name).pause();
      this.states.set(name, 'stopped');
    } else if (action === 'slow') {
      this.supervisor.get(name).send('SIGUSR2');
      this.states.set(name, 'slow');
    }
  }

  private async restore(name: string, state: ReplicaState): Promise<void> {
    const one = this.supervisor.get(name);
    if (state === 'stopped') one.resume();
    if (state === 'slow') one.send('SIGUSR2');
    if (state === 'killed' || state === 'ended') {
      this.states.set(name, 'starting');
      try {
        await this.supervisor.startAgain(name);
      } catch (error) {
        this.states.set(name, 'ended');
        throw error;
      }
    }
    this.states.set(name, 'running');
  }
}
