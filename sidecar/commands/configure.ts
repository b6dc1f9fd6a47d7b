/** The part that `run` and `check` share: the arguments that name a configuration, and loading it. */
import { type Override, overridesFromFlags } from '../config/overrides.ts';
import { formatProblem, nearest, type Problem } from '../config/problems.ts';
import { type ConfigSource, openConfigSource } from '../config/source.ts';
import { EXIT, printError } from './command.ts';

/**
 * Opens the configuration that `args` name, or reports the problems and returns the exit code.
 *
 * @param takesLastGood whether `--last-good DIR` is a flag: with it, a broken file is no failure if an earlier one was
 * kept
 */
export async function configure(
  args: readonly string[],
  takesLastGood = false,
): Promise<{ source: ConfigSource } | { exitCode: number }> {
  const { path, lastGood, flags, problems } = readArguments(args, takesLastGood);
  const opened = await openConfigSource({ path, flags, env: process.env, lastGood });
  if (problems.length === 0 && 'source' in opened) return opened;
  return refuse([...problems, ...('problems' in opened ? opened.problems : [])]);
}

function refuse(problems: readonly Problem[]): { exitCode: number } {
  printError(problems.map(formatProblem).join('\n'));
  printError(problems.length === 1 ? '1 problem' : `${problems.length} problems`);
  return { exitCode: EXIT.USAGE };
}

interface Arguments {
  readonly path: string | undefined;
  readonly lastGood: string | undefined;
  readonly flags: readonly Override[];
  readonly problems: readonly Problem[];
}

function readArguments(args: readonly string[], takesLastGood: boolean): Arguments {
  let path: string | undefined;
  let lastGood: string | undefined;
  const problems: Problem[] = [];
  const settings: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    if (arg === '--config' || arg === '-c') {
      path = args[++index] ?? '';
    } else if (arg.startsWith('--config=')) {
      path = arg.slice('--config='.length);
    } else if (takesLastGood && arg === '--last-good') {
      lastGood = args[++index] ?? '';
    } else if (takesLastGood && arg.startsWith('--last-good=')) {
      lastGood = arg.slice('--last-good='.length);
    } else if (misspelled(arg, takesLastGood) !== undefined) {
      const remedy = `did you mean ${misspelled(arg, takesLastGood)}?`;
      problems.push(usageProblem(arg.split('=', 1)[0]!.slice(0, 60), 'is not a known flag', remedy));
      if (!arg.includes('=')) index++;
    } else {
      settings.push(arg);
    }
    if (path === '') problems.push(usageProblem('--config', 'has no value', 'give the path of a YAML file'));
  }
  if (lastGood === '')
    problems.push(usageProblem('--last-good', 'has no value', 'give a folder that outlives the process'));
  const { overrides, rest } = overridesFromFlags(settings);
  for (const word of rest) {
    const shown = JSON.stringify(word.slice(0, 60));
    problems.push(
      usageProblem(shown, 'is not expected here', 'flags begin with --; the file is --config FILE'),
    );
  }
  return { path: path || undefined, lastGood: lastGood || undefined, flags: overrides, problems };
}

/** The flag beside the settings that the argument means; undefined for a setting, which has a problem of its own. */
function misspelled(arg: string, takesLastGood: boolean): string | undefined {
  const [written = ''] = arg.split('=', 1);
  if (!/^--[^.]+$/.test(written) || written === '--name' || written === '--version') return undefined;
  return nearest(written, takesLastGood ? ['--config', '--last-good'] : ['--config']);
}

function usageProblem(source: string, message: string, remedy: string): Problem {
  return { path: '', source, line: undefined, column: undefined, message, remedy };
}
