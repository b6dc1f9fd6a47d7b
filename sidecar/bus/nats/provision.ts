/** The streams and lanes that a log needs: made when they are needed, and looked at again at each connection. */
import type { JetStreamManager } from '@nats-io/jetstream';
import type { BusConnection } from './connection.ts';
import { agentTypeOf } from './names.ts';
import type { NatsOptions } from './nats-options.ts';
import { queueConfig, streamConfigs } from './stream-configs.ts';
import { ensureLanes, ensureStream } from './streams.ts';

export class Provision {
  /** Says where what was there differs from our settings, for a person. */
  readonly differences = new Set<string>();
  /** The lease of who made the lanes. */
  ackWaitMs = 0;
  private readonly options: NatsOptions;
  private readonly connection: () => BusConnection;
  private readonly queues = new Map<string, Promise<void>>();
  private readonly lanes = new Map<string, Promise<void>>();

  constructor(options: NatsOptions, connection: () => BusConnection) {
    this.options = options;
    this.connection = connection;
  }

  /** At each connection: the server may be a new one. */
  async prepare(jsm: JetStreamManager): Promise<void> {
    const { settings, replicas = 1, setUp } = this.options;
    for (const config of streamConfigs(settings, replicas))
      this.note(await ensureStream(jsm, config, setUp !== undefined));
    for (const agentType of this.queues.keys()) await this.makeQueue(jsm, agentType);
    for (const agentType of this.lanes.keys()) await this.makeLanes(jsm, agentType);
    if (setUp !== undefined) await this.setUpQueues(jsm, setUp.agentTypes);
  }

  /** Whether this log takes tasks. */
  get takes(): boolean {
    return this.lanes.size > 0;
  }

  needQueue(agentType: string): Promise<void> {
    return once(this.queues, agentType, () =>
      this.connection().manage((jsm) => this.makeQueue(jsm, agentType)),
    );
  }

  needLanes(agentType: string): Promise<void> {
    return once(this.lanes, agentType, async () => {
      await this.needQueue(agentType);
      await this.connection().manage((jsm) => this.makeLanes(jsm, agentType));
    });
  }

  /** Those of these agent types, and all that are there. */
  private async setUpQueues(jsm: JetStreamManager, agentTypes: readonly string[]): Promise<void> {
    const all = new Set(agentTypes);
    for await (const name of jsm.streams.names('outrigger.tasks.>')) {
      const agentType = agentTypeOf(name);
      if (agentType !== undefined) all.add(agentType);
    }
    for (const agentType of all) {
      await this.makeQueue(jsm, agentType);
      await this.makeLanes(jsm, agentType);
    }
  }

  private async makeQueue(jsm: JetStreamManager, agentType: string): Promise<void> {
    const { settings, replicas = 1, setUp } = this.options;
    const config = queueConfig(agentType, settings, replicas);
    this.note(await ensureStream(jsm, config, setUp !== undefined));
  }

  private async makeLanes(jsm: JetStreamManager, agentType: string): Promise<void> {
    const { settings, setUp } = this.options;
    this.ackWaitMs = await ensureLanes(jsm, agentType, settings, setUp !== undefined);
  }

  private note(differences: readonly string[]): void {
    for (const difference of differences) this.differences.add(difference);
  }
}

/** Does something once for each name; again after a failure. */
function once(done: Map<string, Promise<void>>, name: string, act: () => Promise<void>): Promise<void> {
  let doing = done.get(name);
  if (doing === undefined) {
    doing = act().catch((error: unknown) => {
      done.delete(name);
      throw error;
    });
    done.set(name, doing);
  }
  return doing;
}
