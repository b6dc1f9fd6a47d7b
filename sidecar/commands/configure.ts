/** What `run` and `check` share: the arguments that name a configuration, and the load. */
import { type Override, overridesFromFlags } from '../config/overrides.ts';
import { formatProblem, type Problem } from '../config/problems.ts';
import { type ConfigSource, openConfigSource } from '../config/source.ts';
import { complain, EXIT, print } from './command.ts';

/** Opens the configuration that `args` ask for, or says what is wrong and gives the exit code. */
export async function configure(
  args: readonly string[],
): Promise<{ source: ConfigSource } | { exitCode: number }> {
  if (args.includes('--help') || args.includes('-h')) {
    const { settingsHelp } = await import('./settings-help.ts');
    print(settingsHelp());
    return { exitCode: EXIT.OK };
  }
  const { path, flags, problems } = readArguments(args);
  const opened = await openConfigSource({ path, flags, env: process.env });
  if (problems.length === 0 && 'source' in opened) return opened;
  return refuse([...problems, ...('problems' in opened ? opened.problems : [])]);
}

function refuse(problems: readonly Problem[]): { exitCode: number } {
  complain(problems.map(formatProblem).join('\n'));
  complain(problems.length === 1 ? '1 problem' : `${problems.length} problems`);
  return { exitCode: EXIT.USAGE };
}

interface Arguments {
  readonly path: string | undefined;
  readonly flags: readonly Override[];
  readonly problems: readonly Problem[];
}

function readArguments(args: readonly string[]): Arguments {
  let path: string | undefined;
  const problems: Problem[] = [];
  const settings: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    if (arg === '--config' || arg === '-c') {
      path = args[++index] ?? '';
    } else if (arg.startsWith('--config=')) {
      path = arg.slice('--config='.length);
    } else {
      settings.push(arg);
    }
    if (path === '') problems.push(usageProblem('--config', 'has no value', 'give the path of a YAML file'));
  }
  const { overrides, rest } = overridesFromFlags(settings);
  for (const word of rest) {
    const shown = JSON.stringify(word.slice(0, 60));
    problems.push(
      usageProblem(shown, 'is not expected here', 'flags begin with --; the file is --config FILE'),
    );
  }
  return { path: path || undefined, flags: overrides, problems };
}

function usageProblem(source: string, message: string, remedy: string): Problem {
  return { path: '', source, line: undefined, column: undefined, message, remedy };
}
