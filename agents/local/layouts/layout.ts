/** A layout of the local system: the services into which it is cut. */

export interface Layout {
  readonly name: string;
  /** For `--help`: what the services are. */
  readonly about: string;
  /** The replicas, each with a sidecar. */
  readonly members: readonly Member[];
  /** The agent type of a task that names none. */
  readonly usualAgent: string;
  /** How many replicas of the egress all sidecars share as their provider of models; none: each asks the provider itself. */
  readonly llmReplicas?: number;
  /** Whether calls of agents become tasks on the bus, and sidecars keep the answers of models. */
  readonly outlives?: boolean;
  /** Tells a user what to know before tasks run. */
  readonly notices?: readonly string[];
  /** Tasks for the page: agent type and input, one after the other. */
  readonly questions: readonly (readonly [agentType: string, input: string])[];
}

/** A replica of a service. */
export interface Member {
  readonly name: string;
  /** The name of its cluster; callers know it as `SERVICE-agent`, too. */
  readonly service: string;
  /** The agent types that it answers for; none where it serves no tasks of users. */
  readonly types: readonly string[];
  /** Its program, from the project's folder. */
  readonly file: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Whether it runs programs of models, and needs what isolates these. */
  readonly needsSandbox?: boolean;
  /** How its model gets the tools of the layout's tool runner; not at all by default. */
  readonly usesTools?: 'grpc' | 'mcp';
}

/** The tool runner. It serves no tasks of users. */
export const toolRunner: Member = {
  name: 'tools-1',
  service: 'tools',
  types: [],
  file: 'agents/tools/agent.ts',
  needsSandbox: true,
};

/** A member whose service, type and program have one name. */
export function simpleAgent(type: string, replica: number): Member {
  return { name: `${type}-${replica}`, service: type, types: [type], file: `agents/${type}/agent.ts` };
}
