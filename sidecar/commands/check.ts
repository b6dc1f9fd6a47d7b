/**
 * `outrigger check`: prints the configuration that `run` would use, or every problem with it. Settings that work, but
 * perhaps not as intended, go to standard error.
 */
import { formatProblem } from '../config/problems.ts';
import { STREAM_IDLE_TIMEOUT } from '../policy/time-limit-settings.ts';
import { EXIT, print, printError } from './command.ts';
import { configure } from './configure.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const HELP: HelpPage = {
  usage: ['check [--config FILE] [--SETTING VALUE …]'],
  about: `Prints the configuration that \`outrigger run\` would use, with every default, or every problem with its line and remedy. Settings that work, but probably not as intended, are warnings on standard error. ${SETTINGS_NOTE}`,
  flags: CONFIG_FLAGS,
};

export async function check(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const configured = await configure(args);
  if ('exitCode' in configured) return configured.exitCode;
  const { Document, isScalar, visit } = await import('yaml');
  const document = new Document(configured.source.effective);
  visit(document, {
    Pair: (_, { key, value }) => {
      // The one default that is no value of its setting: written out, it would apply to all methods.
      if (isScalar(key) && key.value === 'idle_timeout' && isScalar(value) && value.value === null)
        value.comment = ` ${STREAM_IDLE_TIMEOUT} for StreamProcess, none for other methods`;
    },
  });
  print(document.toString());
  for (const { level, message } of configured.source.notices)
    printError(`${level === 'warn' ? 'warning' : 'note'}: ${message}`);
  for (const warning of configured.source.warnings) printError(`warning: ${formatProblem(warning)}`);
  return EXIT.OK;
}
