/** The agents that the gateway can call. */
import { type AgentClient, connectAgent } from '../protocol/agent-client.ts';

export interface RegisteredAgent {
  /** The type in a task's request: `research`. */
  type: string;
  /** The authority by which the sidecar routes: `research-agent`. */
  authority: string;
  client: AgentClient;
}

/** The known agents, each with its own channel. */
export class Registry {
  private readonly agents = new Map<string, RegisteredAgent>();

  /** @param addresses agent type → `host:port` or `unix:/path` */
  constructor(addresses: ReadonlyMap<string, string>) {
    for (const [type, address] of addresses) {
      const authority = `${type}-agent`;
      this.agents.set(type, { type, authority, client: connectAgent(address, authority) });
    }
  }

  get(type: string): RegisteredAgent | undefined {
    return this.agents.get(type);
  }

  all(): RegisteredAgent[] {
    return [...this.agents.values()];
  }

  close(): void {
    for (const { client } of this.agents.values()) client.close();
  }
}
