/** `outrigger run`: runs the sidecar until it has drained. */
import { EXIT, print } from './command.ts';
import { configure } from './configure.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const HELP: HelpPage = {
  usage: ['run [--config FILE] [--last-good DIR] [--SETTING VALUE …]'],
  about: `Runs the sidecar beside an agent; without a configuration, beside one at 127.0.0.1:50051. SIGTERM and SIGINT drain it, SIGHUP and a change of the file reload the configuration. ${SETTINGS_NOTE}`,
  flags: {
    ...CONFIG_FLAGS,
    'last-good': {
      value: 'DIR',
      help: 'Keeps the last file that was in use there, for a start whose own file is broken',
    },
    'inbound.app': { value: 'HOST:PORT', env: 'OUTRIGGER_INBOUND_APP', help: 'The agent [127.0.0.1:50051]' },
    name: { value: 'NAME', env: 'OUTRIGGER_NAME', help: 'Its name in traces, metrics and health' },
    'log.level': { value: 'LEVEL', env: 'OUTRIGGER_LOG_LEVEL', help: 'debug, info, warn, error [info]' },
    'help --all': { bare: true, help: 'Lists every setting' },
  },
  exits: { 0: 'drained', 69: 'it can not listen at an address' },
  more: 'Flags override environment variables, and these override the file. README.md shows a first file.',
};

export async function run(args: readonly string[]): Promise<number | undefined> {
  if (args.includes('--all') && (args.includes('--help') || args.includes('-h'))) {
    const { settingsHelp } = await import('./settings-help.ts');
    print(settingsHelp());
    return EXIT.OK;
  }
  if (helps(args, HELP)) return EXIT.OK;
  const configured = await configure(args, true);
  if ('exitCode' in configured) return configured.exitCode;
  const { runSidecar } = await import('../process/start.ts');
  return runSidecar(configured.source);
}
