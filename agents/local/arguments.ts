/** Parses the command line of `npm start`. */
import { parseArgs } from 'node:util';
import { layouts, typesOf } from './layouts/all.ts';
import type { Layout } from './layouts/layout.ts';

export interface StartArguments {
  /** A task to send, after which the system stops; without one the system runs until Ctrl-C. */
  task: string | undefined;
  agent: string;
  layout: Layout;
  /** Leaves the sidecars out, so that the gateway calls the agents directly. For comparisons and debugging. */
  withoutSidecars: boolean;
  /** Prints the processes' log lines as they arrive. */
  logs: boolean;
  help: boolean;
}

export const usage = `Runs the local system: a gateway, agents, and a sidecar beside each.

  npm start                              until Ctrl-C
  npm start -- --task "TEXT"             sends one task, prints the answer and the task's route, and stops
               [--agent TYPE]            for this agent (below)
               [--logs]                  shows the log of every process
               [--no-sidecar]            lets the gateway call the agents directly
               [--layout NAME]           cuts the system in another way:

${layouts.map((layout) => `  ${layout.name.padEnd(14)}${layout.about}\n${' '.repeat(16)}--agent ${typesOf(layout).join('|')}`).join('\n')}

With OPENAI_API_KEY (and OPENAI_BASE_URL, OPENAI_MODEL) the agents use that provider, without it a server in this
repository that needs no network. PORT moves the gateway from 8080.`;

/** The command line is wrong. The message says what to write instead. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** @throws UsageError */
export function parseArguments(argv: readonly string[]): StartArguments {
  const { task, agent, help, logs, ...others } = parse(argv);
  const layout = layouts.find(({ name }) => name === others.layout);
  if (layout === undefined) {
    const known = layouts.map(({ name }) => name).join(', ');
    throw new UsageError(`unknown layout "${others.layout}"; --layout takes ${known}`);
  }
  if (task !== undefined && task.trim() === '') throw new UsageError('--task needs a text: --task "TEXT"');
  if (task === undefined && agent !== undefined) {
    throw new UsageError('--agent names the agent for a task; add --task "TEXT"');
  }
  const types = typesOf(layout);
  const type = types.find((known) => known === (agent ?? layout.usualAgent));
  if (type === undefined) {
    throw new UsageError(`unknown agent "${agent}"; --agent takes ${types.join(', ')}`);
  }
  return { task, agent: type, layout, logs, help, withoutSidecars: others['no-sidecar'] };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        task: { type: 'string' },
        agent: { type: 'string' },
        layout: { type: 'string', default: 'agents' },
        'no-sidecar': { type: 'boolean', default: false },
        logs: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    }).values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message.split('. ', 1)[0]}; see npm start -- --help`);
  }
}
