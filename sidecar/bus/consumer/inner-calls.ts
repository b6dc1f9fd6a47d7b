/** Makes calls to the process's own inbound listener, for whoever has submitted a task. */
import type { InnerCall, InnerRequest } from './inner-call.ts';
import { InnerConnection, type InnerEnvironment, type TaskCaller } from './inner-connection.ts';

/** Idle connections above this are not kept for the next task of their callers. */
const MAX_CONNECTIONS = 64;

/** Each caller has a connection of its own: who calls is a fact of the connection, which no field of a call can change. */
export class InnerCalls {
  private readonly connections = new Map<string, InnerConnection>();
  private readonly environment: InnerEnvironment;

  constructor(environment: InnerEnvironment) {
    this.environment = environment;
  }

  call(caller: TaskCaller, request: InnerRequest): InnerCall {
    return this.connectionOf(caller).call(request);
  }

  private connectionOf(caller: TaskCaller): InnerConnection {
    const key = JSON.stringify([caller.identity, caller.scope, caller.edition]);
    const known = this.connections.get(key);
    if (known !== undefined) return known;
    if (this.connections.size >= MAX_CONNECTIONS) this.closeOneIdle();
    const connection = new InnerConnection(caller, this.environment, () => {
      if (this.connections.get(key) === connection) this.connections.delete(key);
    });
    this.connections.set(key, connection);
    return connection;
  }

  private closeOneIdle(): void {
    for (const [key, connection] of this.connections) {
      if (!connection.isIdle) continue;
      this.connections.delete(key);
      connection.destroy();
      return;
    }
  }

  /** Ends all calls. */
  close(): void {
    for (const connection of [...this.connections.values()]) connection.destroy();
    this.connections.clear();
  }
}
