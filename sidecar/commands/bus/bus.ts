/** `outrigger bus`: the bus by hand. A table of its own commands, and their dispatch. */
import { nearest } from '../../config/problems.ts';
import { EXIT, print, refuse } from '../command.ts';
import { deadDrop, deadList, deadRetry } from './dead.ts';
import { setup } from './setup.ts';
import { status } from './status.ts';
import { tasks } from './tasks.ts';

interface BusCommand {
  readonly words: string;
  readonly summary: string;
  readonly run: (args: readonly string[]) => Promise<number>;
}

const COMMANDS: readonly BusCommand[] = [
  { words: 'setup', summary: 'makes what the bus needs, or prints the rules of its publishers', run: setup },
  { words: 'status', summary: 'shows the queue of each agent type, and who takes its tasks', run: status },
  { words: 'tasks', summary: 'lists tasks with their states and runs, latest first', run: tasks },
  { words: 'dead list', summary: 'lists the dead letters with their causes', run: deadList },
  { words: 'dead retry', summary: 'submits dead tasks anew', run: deadRetry },
  { words: 'dead drop', summary: 'forgets dead tasks', run: deadDrop },
];

export async function bus(args: readonly string[]): Promise<number> {
  const command = COMMANDS.find(({ words }) => words === args.slice(0, words.split(' ').length).join(' '));
  if (command !== undefined) return command.run(args.slice(command.words.split(' ').length));
  if (args.includes('--help') || args.includes('-h')) {
    print(usage());
    return EXIT.OK;
  }
  const names = COMMANDS.map(({ words }) => words);
  const written = args
    .filter((arg) => !arg.startsWith('-'))
    .slice(0, 2)
    .join(' ');
  const close = nearest(written, names);
  const remedy = close === undefined ? `there are ${names.join(', ')}` : `did you mean ${close}?`;
  return refuse('bus', [
    written === ''
      ? `name a command: ${names.join(', ')}`
      : `${JSON.stringify(written.slice(0, 60))} is no command of the bus; ${remedy}`,
  ]);
}

function usage(): string {
  const lines = COMMANDS.map(({ words, summary }) => `  outrigger bus ${words.padEnd(12)}${summary}`);
  return `outrigger bus COMMAND

Looks at the tasks on the bus (bus.url), and handles them by hand. It reads the configuration of a
sidecar, and never prints what tasks and answers contain.

${lines.join('\n')}

"outrigger bus COMMAND --help" explains a command. docs/tasks.md explains the bus.
Exit code: 0 done; 1 a named task is not there; 64 the command line or the configuration is wrong;
69 the bus can't be reached.`;
}
