/** The table of commands, and their dispatch. */
import { nearest } from '../config/problems.ts';
import { deferSignals } from '../process/deferred-signals.ts';
import { outriggerVersion } from '../telemetry/version.ts';
import { type Command, EXIT, print, printError } from './command.ts';

const COMMANDS: readonly Command[] = [
  {
    name: 'run',
    synopsis: 'run [--config FILE] [--last-good DIR] [--SETTING VALUE …]',
    summary: 'runs the sidecar; SIGTERM and SIGINT drain, SIGHUP and a change of the file reload',
    load: async () => {
      deferSignals();
      return (await import('./run.ts')).run;
    },
  },
  {
    name: 'check',
    synopsis: 'check [--config FILE] [--SETTING VALUE …]',
    summary: 'prints the effective configuration, or every problem with its line and remedy',
    load: async () => (await import('./check.ts')).check,
  },
  {
    name: 'drain',
    synopsis: 'drain [--config FILE]',
    summary: 'drains the inbound side of the sidecar on this machine, as the preStop hook of its pod',
    load: async () => (await import('./drain.ts')).drain,
  },
  {
    name: 'inject',
    synopsis: 'inject [-f FILE]',
    summary: 'writes Kubernetes YAML with the sidecar in every workload that is not opted out',
    load: async () => (await import('./inject.ts')).inject,
  },
  {
    name: 'webhook',
    synopsis: 'webhook',
    summary: 'serves the mutating admission webhook',
    load: async () => (await import('./webhook.ts')).webhook,
  },
  {
    name: 'istio',
    synopsis: 'istio [--config FILE] [--namespace NAME] [--caller NAME …] [--directory DIR]',
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
  const lines = COMMANDS.map(({ synopsis, summary }) => `  outrigger ${synopsis}\n      ${summary}`);
  return `Outrigger: a resilience sidecar for agents that talk gRPC

${lines.join('\n')}
  outrigger --version

Every setting of the file is a flag (--inbound.app 127.0.0.1:50051) and an environment variable
(OUTRIGGER_INBOUND_APP); flags override variables, and variables override the file.
"outrigger run --help" lists the settings.`;
}
