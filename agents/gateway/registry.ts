/** The agents that the gateway can call. */
import { type AgentClient, connectAgent } from '../protocol/agent-client.ts';

/** Where an agent type is reached. */
export interface AgentAddress {
  /** `host:port` or `unix:/path`. */
  readonly address: string;
  /** The name by which the sidecar routes: `research-agent`. */
  readonly authority: string;
}

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

  /** @param known by agent type */
  constructor(known: ReadonlyMap<string, AgentAddress>) {
    for (const [type, agent] of known) this.add(type, agent);
  }

  /** Does nothing for a known type. */
  add(type: string, { address, authority }: AgentAddress): void {
    if (this.agents.has(type)) return;
    this.agents.set(type, { type, authority, client: connectAgent(address, authority) });
  }

  /** Calls under way go on to their end. */
  remove(type: string): void {
    this.agents.get(type)?.client.close();
    this.agents.delete(type);
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
