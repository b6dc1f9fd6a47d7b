/** The bus beside the listeners: what the app publishes, and what the inbound side takes from it and runs. */
import { Bus, type BusConfig, type BusEvents } from '../bus/bus.ts';
import type { ConsumerEvents } from '../bus/consumer/consumer-events.ts';
import type { ConsumerSettings, TaskConsumer } from '../bus/consumer/task-consumer.ts';
import { LogUnavailableError } from '../bus/log/log-errors.ts';
import { afterLoss } from '../bus/log/lost-runs.ts';
import type { TaskRecord } from '../bus/log/task-record.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { GrpcListenerEnvironment } from '../listeners/grpc-listener-options.ts';
import type { Inbound } from '../listeners/inbound.ts';
import type { Outbound } from '../listeners/outbound.ts';
import {
  type ConsumptionSettings,
  consumerSettings,
  createConsumer,
} from '../listeners/tasks/task-consumption.ts';
import { callerScope, scopeDigest } from '../proxy/caller-scope.ts';

/** Receives what happens to the tasks that this sidecar runs, for logs and `/events`. */
export interface BusObserver extends BusEvents {
  /** The run of a task ended without a result; `isDead` says that no other follows. */
  onTaskLost(record: TaskRecord, cause: string, isDead: boolean): void;
  onTaskGivenBack(record: TaskRecord, because: string): void;
  /** A run went on although its lease was over, or its task cancelled: what it had to say is void. */
  onTaskFenced(record: TaskRecord, because: string): void;
}

type Config = BusConfig & ConsumptionSettings;

/** The time that results get to be stored when a drain is over. */
const STORE_MS = 2_000;

export class BusSide {
  readonly bus: Bus;
  private config: Config;
  /** By the agent type that has places of its own; '' for all others. */
  private readonly consumers = new Map<string, TaskConsumer>();
  private readonly observer: Partial<BusObserver>;

  constructor(config: Config, observer: Partial<BusObserver>) {
    this.config = config;
    this.observer = observer;
    this.bus = new Bus(config, {
      events: {
        onBusConnected: (...of) => observer.onBusConnected?.(...of),
        onBusNotice: (notice) => observer.onBusNotice?.(notice),
        onBusDefect: (error) => observer.onBusDefect?.(error),
      },
      scopeOf: (fields, names) => scopeDigest(callerScope('', new HeaderList(fields), names)),
    });
  }

  /** Opens the log, or another one where the settings have changed. Takes no task yet. */
  apply(config: Config, inbound: Inbound, outbound: Outbound): void {
    this.config = config;
    this.bus.apply(config);
    const bus = this.bus.isOn ? this.bus : undefined;
    inbound.taskService.bus = bus;
    outbound.taskService.bus = bus;
  }

  /** Takes tasks from here on, or takes others than before. Call it when the inbound side serves, and after each `apply`. */
  consume(inbound: Inbound, environment: GrpcListenerEnvironment): void {
    const { bus, config, consumers } = this;
    const wanted = bus.isOn ? consumersOf(config) : new Map<string, readonly string[]>();
    for (const [name, consumer] of consumers) {
      if (wanted.has(name)) continue;
      consumers.delete(name);
      consumer.stopTaking();
      void consumer.ended().then(() => consumer.close());
    }
    for (const [name, agentTypes] of wanted) {
      const settings = { ...consumerSettings(config), agentTypes };
      const consumer = consumers.get(name);
      if (consumer === undefined) consumers.set(name, this.start(name, settings, inbound, environment));
      else consumer.apply(settings);
    }
  }

  private start(
    name: string,
    settings: ConsumerSettings,
    inbound: Inbound,
    environment: GrpcListenerEnvironment,
  ): TaskConsumer {
    const { log, sealer, memory } = this.bus;
    // Two consumers of one process show themselves to the bus under two names.
    const instance = name === '' ? environment.instance : `${environment.instance}-${name}`;
    const consumer = createConsumer(
      settings,
      inbound,
      { ...environment, instance },
      {
        log,
        sealer,
        memory,
        events: this.events(),
      },
    );
    consumer.start();
    return consumer;
  }

  /** Tasks of the bus that run here. */
  get running(): number {
    return [...this.consumers.values()].reduce((sum, { running }) => sum + running, 0);
  }

  /** The first step of a drain. What runs goes on. */
  stopTaking(): void {
    for (const consumer of this.consumers.values()) consumer.stopTaking();
  }

  /** The inbound side has ended its calls: waits until their results are stored, and what was cut is given back. */
  async stored(): Promise<void> {
    if (this.consumers.size === 0) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, STORE_MS);
    });
    await Promise.race([Promise.all([...this.consumers.values()].map((consumer) => consumer.ended())), late]);
    clearTimeout(timer);
  }

  close(): void {
    for (const consumer of this.consumers.values()) consumer.close();
    void this.bus.close();
  }

  private events(): ConsumerEvents {
    const { bus, observer } = this;
    const { counts } = bus;
    return {
      onDelivered: ({ agentType }) => counts.count(agentType, 'delivered'),
      onSettled: ({ agentType }) => counts.count(agentType, 'settled'),
      onLost: (record, cause) => {
        const isDead = afterLoss(record.lostRuns + 1, this.config.bus.consume).next === 'dead';
        counts.count(record.agentType, 'lost');
        if (isDead) counts.count(record.agentType, 'dead');
        observer.onTaskLost?.(record, cause, isDead);
      },
      onBuried: (record, cause) => {
        counts.count(record.agentType, 'dead');
        observer.onTaskLost?.(record, cause, true);
      },
      onGivenBack: (record, because) => {
        counts.count(record.agentType, 'given_back');
        observer.onTaskGivenBack?.(record, because);
      },
      onFenced: (record, because) => {
        counts.count(record.agentType, 'fenced');
        observer.onTaskFenced?.(record, because);
      },
      onProblem: (error) => {
        // The state of the connection says it.
        if (!(error instanceof LogUnavailableError)) observer.onBusDefect?.(error);
      },
    };
  }
}

/** The agent types of each consumer. One that the app serves beside others has a consumer, and so places, of its own. */
function consumersOf({ bus, inbound }: Config): ReadonlyMap<string, readonly string[]> {
  const { agentTypes } = bus.consume;
  const consumers = new Map<string, readonly string[]>();
  const shared = agentTypes.filter((agentType) => !inbound.agentTypes.has(agentType));
  if (shared.length > 0) consumers.set('', shared);
  for (const agentType of agentTypes)
    if (inbound.agentTypes.has(agentType)) consumers.set(agentType, [agentType]);
  return consumers;
}
