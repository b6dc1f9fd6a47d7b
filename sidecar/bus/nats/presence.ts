/** The sidecars that take tasks, and those on which callers wait: each says so again and again, or is forgotten. */
import { headers, type MsgHdrs } from '@nats-io/transport-node';
import type { Consumer } from '../log/task-log.ts';
import type { BusConnection } from './connection.ts';
import { attendingSubject, CONSUMERS, consumerSubject, encodeToken } from './names.ts';

interface Announced extends Consumer {
  readonly untilMs: number;
}

interface Attending {
  readonly untilMs: number;
}

export class Presence {
  private readonly connection: BusConnection;
  private readonly leaseMs: number;
  /** The types of each consumer that was announced here. */
  private readonly announced = new Map<string, readonly string[]>();

  constructor(connection: BusConnection, leaseMs: number) {
    this.connection = connection;
    this.leaseMs = leaseMs;
  }

  async announce(consumer: Consumer): Promise<void> {
    const { instance, agentTypes, places } = consumer;
    const before = this.announced.get(instance) ?? [];
    const now = places === 0 ? [] : agentTypes;
    const gone = [...before, ...agentTypes].filter((agentType) => !now.includes(agentType));
    await Promise.all([
      ...now.map((agentType) => this.put(agentType, consumer)),
      ...[...new Set(gone)].map((agentType) => this.remove(agentType, instance)),
    ]);
    if (places === 0) this.announced.delete(instance);
    else this.announced.set(instance, agentTypes);
  }

  async consumers(agentType: string): Promise<readonly Consumer[]> {
    const nowMs = this.connection.clock.nowMs();
    const found: Consumer[] = [];
    const subjects = `outrigger.consumers.${encodeToken(agentType)}.*`;
    for (const { data } of await this.connection.directLasts(CONSUMERS, subjects)) {
      const { untilMs, ...consumer } = JSON.parse(Buffer.from(data).toString()) as Announced;
      if (untilMs > nowMs) found.push(consumer);
    }
    return found.sort((a, b) => (a.instance < b.instance ? -1 : 1));
  }

  async attend(sidecar: string): Promise<void> {
    const attending: Attending = { untilMs: this.connection.clock.nowMs() + this.leaseMs };
    const body = Buffer.from(JSON.stringify(attending));
    await this.connection.store(attendingSubject(sidecar), body, this.forALease());
  }

  async isAttending(sidecar: string): Promise<boolean> {
    const found = await this.connection.directLast(CONSUMERS, attendingSubject(sidecar));
    if (found === undefined) return false;
    const { untilMs } = JSON.parse(Buffer.from(found.data).toString()) as Attending;
    return untilMs > this.connection.clock.nowMs();
  }

  private async put(agentType: string, consumer: Consumer): Promise<void> {
    const announced: Announced = { ...consumer, untilMs: this.connection.clock.nowMs() + this.leaseMs };
    const body = Buffer.from(JSON.stringify(announced));
    await this.connection.store(consumerSubject(agentType, consumer.instance), body, this.forALease());
  }

  private forALease(): MsgHdrs {
    const fields = headers();
    fields.set('Nats-TTL', `${Math.max(1, Math.ceil(this.leaseMs / 1_000))}s`);
    return fields;
  }

  private async remove(agentType: string, instance: string): Promise<void> {
    const filter = consumerSubject(agentType, instance);
    await this.connection.manage((jsm) => jsm.streams.purge(CONSUMERS, { filter }));
  }
}
