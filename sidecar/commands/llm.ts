/** `outrigger llm`: runs the egress as a service of its own, until it has drained. */
import { EXIT } from './command.ts';
import { configure } from './configure.ts';
import { CONFIG_FLAGS, type HelpPage, helps, SETTINGS_NOTE } from './help.ts';

const HELP: HelpPage = {
  usage: ['llm [--config FILE] [--last-good DIR] [--SETTING VALUE …]'],
  about: `Runs the LLM egress as a service of its own: llm.listen with admin, metrics and health, and no agent beside it. Beyond this machine it needs llm.callers or llm.tls with client_ca. SIGTERM and SIGINT drain it, SIGHUP and a change of the file reload the configuration. ${SETTINGS_NOTE}`,
  flags: {
    ...CONFIG_FLAGS,
    'last-good': {
      value: 'DIR',
      help: 'Keeps the last file that was in use there, for a start whose own file is broken',
    },
    'llm.listen': {
      value: 'HOST:PORT',
      env: 'OUTRIGGER_LLM_LISTEN',
      help: 'Where callers ask for models [127.0.0.1:15002]',
    },
    'log.level': { value: 'LEVEL', env: 'OUTRIGGER_LOG_LEVEL', help: 'debug, info, warn, error [info]' },
  },
  exits: { 0: 'drained', 69: 'it can not listen at an address' },
  more: 'docs/llm-egress.md has the chapter "As a service", with a first file.',
};

export async function llm(args: readonly string[]): Promise<number | undefined> {
  if (helps(args, HELP)) return EXIT.OK;
  const configured = await configure(args, true);
  if ('exitCode' in configured) return configured.exitCode;
  const { runSidecar } = await import('../process/start.ts');
  return runSidecar(configured.source, 'llm');
}
