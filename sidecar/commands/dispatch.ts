/** The table of commands, and their dispatch. */
import { nearest } from '../config/problems.ts';
import { deferSignals } from '../process/deferred-signals.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { type Command, EXIT, print, printError } from './command.ts';

const COMMANDS: readonly Command[] = [
  {
    name: 'run',
    summary: 'runs the sidecar; SIGTERM and SIGINT drain, SIGHUP and a change of the file reload',
    load: async () => {
      deferSignals();
      return (await import('./run.ts')).run;
    },
  },
  {
    name: 'llm',
    summary: 'runs the LLM egress as a service of its own, for many callers',
    load: async () => {
      deferSignals();
      return (await import('./llm.ts')).llm;
    },
  },
  {
    name: 'check',
    summary: 'prints the effective configuration, or every problem with its line and remedy',
    load: async () => (await import('./check.ts')).check,
  },
  {
    name: 'status',
    summary: 'shows the fleet, one line a sidecar',
    load: async () => (await import('./status/status.ts')).status,
  },
  {
    name: 'calls',
    summary: 'lists the running calls of a sidecar with their attempts',
    load: async () => (await import('./calls.ts')).calls,
  },
  {
    name: 'bus',
    summary: 'the tasks on the bus: setup, status, tasks, and the dead letters',
    load: async () => (await import('./bus/bus.ts')).bus,
  },
  {
    name: 'drain',
    summary: 'drains the inbound side of the sidecar on this machine, as the preStop hook of its pod',
    load: async () => (await import('./drain.ts')).drain,
  },
  {
    name: 'inject',
    summary: 'writes Kubernetes YAML with the sidecar in every workload that is not opted out',
    load: async () => (await import('./inject.ts')).inject,
  },
  {
    name: 'webhook',
    summary: 'serves the mutating admission webhook',
    load: async () => (await import('./webhook.ts')).webhook,
  },
  {
    name: 'scaler',
    summary: 'serves KEDA, so that replicas follow the tasks that wait',
    load: async () => (await import('./scaler.ts')).scaler,
  },
  {
    name: 'istio',
    summary: "writes the Istio resources that say the same, and comments what Istio can't say",
    load: async () => (await import('./istio.ts')).istio,
  },
];

/** Runs the command that the arguments name and returns the exit code. Never throws. */
export async function dispatch(args: readonly string[]): Promise<number | undefined> {
  const [first, ...rest] = args;
  if (first === undefined) {
    printError(usage());
    return EXIT.USAGE;
  }
  if (first === 'help' && rest[0] !== undefined) return dispatch([rest[0], '--help']);
  if (first === '--help' || first === '-h' || first === 'help') {
    print(usage());
    return EXIT.OK;
  }
  if (first === '--version' || first === '-v') {
    print(outriggerVersion());
    return EXIT.OK;
  }
  const command = COMMANDS.find(({ name }) => name === first);
  if (command === undefined) return unknownCommand(first);
  try {
    const main = await command.load();
    return await main(rest);
  } catch (error) {
    printError(
      `outrigger ${command.name}: ${error instanceof Error ? (error.stack ?? error.message) : error}`,
    );
    return EXIT.SOFTWARE;
  }
}

function unknownCommand(word: string): number {
  const names = COMMANDS.map(({ name }) => name);
  const close = nearest(word, names);
  const remedy = close === undefined ? `the commands are ${names.join(', ')}` : `did you mean ${close}?`;
  printError(`outrigger: ${JSON.stringify(word.slice(0, 60))} is not a command\n    ${remedy}`);
  return EXIT.USAGE;
}

function usage(): string {
  const lines = COMMANDS.map(({ name, summary }) => `  outrigger ${name.padEnd(9)}${summary}`);
  return `Outrigger: a resilience sidecar for agents that talk gRPC

${lines.join('\n')}

"outrigger COMMAND --help" explains a command; "outrigger --version" prints the version.
"outrigger run --help --all" lists every setting.`;
}
