/** `outrigger bus setup`: makes what the bus needs before the first task, so that a mistake shows at once. */
import { busPlace } from '../../bus/bus-url.ts';
import { permissionsText, rulesOf } from '../../bus/nats/permissions.ts';
import { openShares } from '../../bus/standing-shares.ts';
import { openStore } from '../../journal/open-store.ts';
import { EXIT, print, refuse } from '../command.ts';
import type { FlagTable } from '../flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { BUS_EXITS, OUTPUT_FLAG, readLine, withLog } from './opened-log.ts';

const FLAGS = {
  ...OUTPUT_FLAG,
  permissions: {
    bare: true,
    help: 'print the rules of the NATS servers for the sidecar with this configuration, and make nothing; json lists their subjects, as for nsc',
  },
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['bus setup [--output json]', 'bus setup --permissions [--output json]'],
  about:
    'Makes what the bus needs, and the journal and the shared limits of callers where they are on the bus: the file, or on NATS the streams. A sidecar makes it at its start, too; by hand, a mistake shows before the first task. Streams that are there get the limits of this configuration.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: BUS_EXITS,
};

export async function setup(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const line = await readLine('bus setup', args, FLAGS);
  if (typeof line === 'number') return line;
  const { url, json, flags, name, publishes, bus, journal, sharesLimits } = line;
  const keepsAnswers = journal.store === 'bus';
  if (flags.permissions.length > 0) {
    if (busPlace(url).engine !== 'nats')
      return refuse('bus setup', ['--permissions is for NATS: a file has the permissions of its mode']);
    const rights = { publisher: name, publishes, takes: bus.consume.agentTypes, keepsAnswers, sharesLimits };
    print(json ? JSON.stringify(rulesOf(rights), null, 2) : permissionsText(rights));
    return EXIT.OK;
  }
  return withLog(
    'bus setup',
    line,
    async (log) => {
      // The log answers.
      await log.status();
      if (keepsAnswers) await (await openStore(journal, bus, { name, publisher: '', setUp: true })).close();
      if (sharesLimits) await (await openShares(bus, url, name, true)).close();
      const { engine } = busPlace(url);
      const changed = log.notices ?? [];
      if (json) print(JSON.stringify({ url, engine, ready: true, changed }, null, 2));
      else print([`the bus at ${url} is ready`, ...changed.map((each) => `changed ${each}`)].join('\n'));
      return EXIT.OK;
    },
    { agentTypes: [...new Set([...publishes, ...bus.consume.agentTypes])] },
  );
}
