/** Several agents in one process, which a task's `agent_type` tells apart. */
import type { Agent, TaskRequest } from './agent.ts';
import { AgentError } from './errors.ts';
import type { MoreHealth } from './health.ts';

/** One of the agents of a domain. */
export interface DomainAgent extends Pick<Agent, 'processTask' | 'streamProcess'> {
  /**
   * Why this agent takes no tasks now; undefined while it does. Asked for at each health check of the gRPC service with the
   * agent type's name; the others, and the process as a whole, stay in service.
   */
  problem?(): string | undefined;
}

/** A service of several agents. The sidecars keep them apart where they are named (`agent_types`). */
export interface Domain {
  name: string;
  version: string;
  /** By agent type. */
  agents: Readonly<Record<string, DomainAgent>>;
}

/** The agents as one: each task goes to the agent of its type, and a task of another type is refused. */
export function agentOf({ name, version, agents }: Domain): Agent {
  const find = ({ agent_type: type }: TaskRequest): DomainAgent => {
    const agent = Object.hasOwn(agents, type) ? agents[type] : undefined;
    if (agent !== undefined) return agent;
    const known = Object.keys(agents).join(', ');
    const asked = type === '' ? 'the task names no agent' : `there is no agent ${JSON.stringify(type)} here`;
    throw new AgentError('INVALID_ARGUMENT', `${asked}: set agent_type to one of ${known}`, {
      field: 'agent_type',
    });
  };
  return {
    name,
    version,
    processTask: async (task, context) => find(task).processTask(task, context),
    streamProcess: async function* (task, context) {
      yield* find(task).streamProcess(task, context);
    },
  };
}

/** The health of each agent, under the name of its type. */
export function healthOf({ agents }: Domain): MoreHealth {
  return {
    services: Object.keys(agents),
    serviceProblem: (service) => agents[service]?.problem?.(),
    checks: () =>
      Object.fromEntries(
        Object.entries(agents).map(([type, agent]) => [type, agent.problem?.() ?? 'serving'] as const),
      ),
  };
}
