/** Takes tasks from the log, as many as the agent has free places, and runs each by a call of the own inbound listener. */
import { backoffMs } from '../../clock/backoff.ts';
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';
import { LogUnavailableError } from '../log/log-errors.ts';
import type { TaskLease, TaskLog } from '../log/task-log.ts';
import type { BusMemory } from '../memory/bus-memory.ts';
import type { Sealer } from '../message/sealer.ts';
import { Announcer } from './announcer.ts';
import { BusRun } from './bus-run.ts';
import type { ConsumerEvents } from './consumer-events.ts';
import { InnerCalls } from './inner-calls.ts';
import type { Adopt } from './inner-connection.ts';
import type { RunContext, RunSettings } from './run-context.ts';
import { RunGate } from './run-gate.ts';
import { TakeValve } from './take-valve.ts';

export interface ConsumerSettings extends RunSettings {
  readonly name: string;
  readonly version: string;
  readonly agentTypes: readonly string[];
  readonly places: number;
}

/** The health of the app beside the sidecar. */
interface AppState {
  readonly healthy: boolean;
  /** @returns a function that unsubscribes */
  onChange(listener: (healthy: boolean) => void): () => void;
}

export interface ConsumerEnvironment
  extends Pick<RunContext, 'log' | 'sealer' | 'memory' | 'wheel' | 'clock' | 'random' | 'events'> {
  /** Unique among all sidecars. */
  readonly instance: string;
  readonly adopt: Adopt;
  readonly app: AppState;
}

/** The wait after a task that this sidecar could not run, and after a log that could not be asked. */
const BACKOFF = { baseMs: 100, multiplier: 2, maxMs: 5_000 };

/**
 * Each place is a loop: it takes a task, runs it to its end, and takes the next. Nothing is fetched ahead.
 *
 *     wait until tasks may be taken ──▶ take ──▶ run ──┐
 *          ▲───────────────────────────────────────────┘
 */
export class TaskConsumer implements RunContext {
  readonly log: TaskLog;
  readonly sealer: Sealer;
  readonly memory: BusMemory;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  readonly events: ConsumerEvents;
  readonly calls: InnerCalls;
  readonly gate: RunGate;
  settings: ConsumerSettings;
  isDraining = false;
  isClosing = false;
  /** Tasks that run, or are about to. */
  running = 0;
  private readonly environment: ConsumerEnvironment;
  private readonly valve = new TakeValve();
  private readonly announcer: Announcer;
  private readonly pauses = { app: new Pause(this, 'pause'), log: new Pause(this, 'log') };
  private readonly loops = new Map<number, Promise<void>>();
  private stopListening: () => void = () => {};

  constructor(settings: ConsumerSettings, environment: ConsumerEnvironment) {
    const { log, sealer, memory, wheel, clock, random, events, adopt } = environment;
    this.settings = settings;
    this.environment = environment;
    this.log = log;
    this.sealer = sealer;
    this.memory = memory;
    this.wheel = wheel;
    this.clock = clock;
    this.random = random;
    this.events = events;
    this.calls = new InnerCalls({ wheel, clock, adopt });
    this.gate = new RunGate((isShared) => {
      if (isShared) this.valve.open('alone');
      else this.valve.close('alone');
    });
    this.announcer = new Announcer({ log, wheel, clock, leaseMs: settings.leaseMs });
  }

  start(): void {
    const { app } = this.environment;
    this.stopListening = app.onChange((healthy) => this.onApp(healthy));
    this.onApp(app.healthy);
    this.fillPlaces();
  }

  /** Applies new settings to the tasks that are taken from now on. */
  apply(settings: ConsumerSettings): void {
    // The log may still give leases of the length before: the shorter one suits both.
    const leaseMs = Math.min(settings.leaseMs, this.settings.leaseMs);
    this.settings = { ...settings, leaseMs };
    this.valve.renew();
    this.fillPlaces();
    this.announce();
  }

  /** The first half of a drain: takes no more tasks, and gives back those that have not begun. Running ones go on. */
  stopTaking(): void {
    this.isDraining = true;
    this.valve.close('drain');
    this.valve.wake();
    this.announce();
  }

  /** Resolves when nothing runs any more, and all results are stored. Call {@link stopTaking} before. */
  async ended(): Promise<void> {
    await Promise.all(this.loops.values());
  }

  /** Stops at once: what runs is lost to its lease, unless it has ended. */
  close(): void {
    this.isClosing = true;
    this.stopTaking();
    this.stopListening();
    this.announcer.stop();
    for (const pause of Object.values(this.pauses)) this.wheel.cancel(pause);
    this.calls.close();
  }

  private onApp(healthy: boolean): void {
    if (healthy) this.valve.open('app');
    else this.valve.close('app');
    this.announce();
  }

  private announce(): void {
    const { instance, app } = this.environment;
    const { name, version, agentTypes } = this.settings;
    const places = this.isDraining || !app.healthy ? 0 : this.settings.places;
    this.announcer.tell({ instance, name, version, agentTypes, places });
  }

  private fillPlaces(): void {
    for (let place = 0; place < this.settings.places; place++)
      if (!this.loops.has(place))
        this.loops.set(
          place,
          this.loop(place).finally(() => this.loops.delete(place)),
        );
  }

  /** Never rejects. */
  private async loop(place: number): Promise<void> {
    while (!this.isDraining && place < this.settings.places) {
      if (!this.valve.isOpen || this.settings.agentTypes.length === 0) {
        await this.valve.whenChanged();
        continue;
      }
      const lease = await this.take();
      if (lease === undefined) continue;
      this.running++;
      const outcome = await new BusRun(this, lease).run();
      this.running--;
      if (outcome === 'turned_away') this.pauses.app.begin();
      else this.pauses.app.forget();
    }
  }

  private async take(): Promise<TaskLease | undefined> {
    try {
      const lease = await this.log.take(
        this.settings.agentTypes,
        this.environment.instance,
        this.valve.signal,
      );
      this.pauses.log.forget();
      return lease;
    } catch (error) {
      if (!(error instanceof LogUnavailableError) && !this.isDraining) this.events.onProblem(error);
      this.pauses.log.begin();
      return undefined;
    }
  }

  /** A pause begins or ends. */
  pause(by: 'pause' | 'log', isOn: boolean): void {
    if (isOn) this.valve.close(by);
    else this.valve.open(by);
  }
}

/** Takes no tasks for a moment, which grows each time. */
class Pause extends Timer {
  private readonly consumer: TaskConsumer;
  private readonly by: 'pause' | 'log';
  private step = 0;

  constructor(consumer: TaskConsumer, by: 'pause' | 'log') {
    super();
    this.consumer = consumer;
    this.by = by;
  }

  begin(): void {
    if (this.armed) return;
    const { wheel, clock, random } = this.consumer;
    this.consumer.pause(this.by, true);
    wheel.arm(this, clock() + backoffMs(BACKOFF, ++this.step, random()));
  }

  /** Something went well. */
  forget(): void {
    this.step = 0;
  }

  override onTimeout(): void {
    this.consumer.pause(this.by, false);
  }
}
