/** Requests of dead tasks: stored before the queue forgets them. */
import type { BusConnection } from './connection.ts';
import type { QueuedTask } from './delivery.ts';
import { bytesOf, headOf, readHead } from './head.ts';
import { DEAD, deadSubject, deadSubjects, type TaskName } from './names.ts';

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

  async put(request: QueuedTask, cause: string): Promise<void> {
    const { agentType, generation, large, body } = request;
    const head: DeadHead = { generation, cause, large };
    await this.connection.store(deadSubject(agentType, request), body, headOf(head));
  }

  async get(agentType: string, name: TaskName): Promise<(DeadHead & { readonly body: Buffer }) | undefined> {
    const found = await this.connection.directLast(DEAD, deadSubject(agentType, name));
    const head = readHead<DeadHead>(found?.headers);
    return head === undefined ? undefined : { ...head, body: bytesOf(found!.data) };
  }

  async remove(agentType: string, name: TaskName): Promise<void> {
    await this.connection.manage((jsm) => jsm.streams.purge(DEAD, { filter: deadSubject(agentType, name) }));
  }

  async count(agentType: string): Promise<number> {
    const info = await this.connection.manage((jsm) =>
      jsm.streams.info(DEAD, { subjects_filter: deadSubjects(agentType) }),
    );
    return Object.keys(info.state.subjects ?? {}).length;
  }
}
