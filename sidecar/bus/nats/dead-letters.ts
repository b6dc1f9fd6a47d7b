/** Requests of dead tasks: stored before the queue forgets them. */
import type { BusConnection } from './connection.ts';
import { bytesOf, headOf, readHead } from './head.ts';
import { DEAD, deadSubject } from './names.ts';
import type { QueuedTask } from './queue.ts';

interface DeadHead {
  readonly generation: number;
  readonly cause: string;
  readonly large: string;
}

export class DeadLetters {
  private readonly connection: BusConnection;

  constructor(connection: BusConnection) {
    this.connection = connection;
  }

  async put({ agentType, key, generation, large, body }: QueuedTask, cause: string): Promise<void> {
    const head: DeadHead = { generation, cause, large };
    await this.connection.store(deadSubject(agentType, key), body, headOf(head));
  }

  async get(agentType: string, key: string): Promise<(DeadHead & { readonly body: Buffer }) | undefined> {
    const found = await this.connection.directLast(DEAD, deadSubject(agentType, key));
    const head = readHead<DeadHead>(found?.headers);
    return head === undefined ? undefined : { ...head, body: bytesOf(found!.data) };
  }

  async remove(agentType: string, key: string): Promise<void> {
    await this.connection.manage((jsm) => jsm.streams.purge(DEAD, { filter: deadSubject(agentType, key) }));
  }

  async count(agentType: string): Promise<number> {
    const info = await this.connection.manage((jsm) =>
      jsm.streams.info(DEAD, { subjects_filter: deadSubject(agentType, '*').replace('%2A', '*') }),
    );
    return Object.keys(info.state.subjects ?? {}).length;
  }
}
