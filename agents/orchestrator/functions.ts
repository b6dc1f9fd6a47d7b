/** The functions that the planning model sees: one for each agent, and one for each tool. */
import type OpenAI from 'openai';
import type { TaskContext } from 'outrigger/agent';
import type { CallableAgent } from './settings.ts';

/** Names the purpose of a call of the model. */
export type Target = { readonly kind: 'agent'; readonly agent: CallableAgent } | { readonly kind: 'tool' };

/** The functions of one task, in an order that is the same in each run. */
export interface Functions {
  readonly offered: readonly OpenAI.ChatCompletionTool[];
  readonly targets: ReadonlyMap<string, Target>;
}

export const NO_FUNCTIONS: Functions = { offered: [], targets: new Map() };

const agentFunction = (name: string): string => `ask_${name}`;

/** The list of tools is asked for again so often: another list would make another prompt, and lose a run's answers. */
const tries = 3;

/** An agent goes before a tool of the same name. */
export async function functionsFor(
  agents: readonly CallableAgent[],
  context: TaskContext,
): Promise<Functions> {
  const targets = new Map<string, Target>();
  const offered: OpenAI.ChatCompletionTool[] = [];
  for (const agent of agents) {
    const name = agentFunction(agent.name);
    targets.set(name, { kind: 'agent', agent });
    offered.push({
      type: 'function',
      function: { name, description: agent.description, parameters: agentParameters },
    });
  }
  for (const tool of await toolsOf(context)) {
    if (tool.type !== 'function' || targets.has(tool.function.name)) continue;
    targets.set(tool.function.name, { kind: 'tool' });
    offered.push(tool);
  }
  return { offered, targets };
}

const agentParameters = {
  type: 'object',
  properties: {
    input: {
      type: 'string',
      description: 'The whole task for this agent. It sees nothing else, so include what it needs to know.',
    },
  },
  required: ['input'],
  additionalProperties: false,
};

async function toolsOf({ tools }: TaskContext): Promise<OpenAI.ChatCompletionTool[]> {
  if (tools === undefined) return [];
  for (let tried = 1; ; tried++) {
    const found = await tools.list();
    if (found.length > 0 || tried === tries) {
      return found.sort((one, other) => (one.function.name < other.function.name ? -1 : 1));
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}
