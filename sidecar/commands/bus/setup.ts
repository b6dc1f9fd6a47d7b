/** `outrigger bus setup`: makes what the bus needs before the first task, so that a mistake shows at once. */
import { busPlace } from '../../bus/bus-url.ts';
import { EXIT, print } from '../command.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { BUS_EXITS, OUTPUT_FLAG, readLine, withLog } from './opened-log.ts';

const HELP: HelpPage = {
  usage: ['bus setup [--output json]'],
  about:
    'Makes what the bus needs: the file, or on NATS the streams and buckets. A sidecar makes it at its start, too; by hand, a mistake shows before the first task. It changes nothing that is there.',
  flags: { ...OUTPUT_FLAG, ...CONFIG_FLAGS },
  exits: BUS_EXITS,
};

export async function setup(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const line = await readLine('bus setup', args, OUTPUT_FLAG);
  if (typeof line === 'number') return line;
  const { url, json } = line;
  return withLog(
    'bus setup',
    line,
    async (log) => {
      // The log answers.
      await log.status();
      const { engine } = busPlace(url);
      if (json) print(JSON.stringify({ url, engine, ready: true }, null, 2));
      else print(`the bus at ${url} is ready`);
      return EXIT.OK;
    },
    true,
  );
}
