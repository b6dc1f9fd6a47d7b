/** What the commands of the bus share: their flags, and the log that the configuration names. */
import { existsSync } from 'node:fs';
import { busPlace } from '../../bus/bus-url.ts';
import { LogSetupError, LogUnavailableError } from '../../bus/log/log-errors.ts';
import type { TaskLog } from '../../bus/log/task-log.ts';
import { openLog } from '../../bus/open-log.ts';
import type { BusSettings } from '../../bus/settings.ts';
import type { JournalSettings } from '../../journal/settings.ts';
import { EXIT, printError, refuse } from '../command.ts';
import { configure } from '../configure.ts';
import { type Flags, type FlagTable, misspelled, readFlags, splitFlags } from '../flags.ts';
import { clean } from '../table.ts';
import { tableOrJson } from '../watch.ts';

export const OUTPUT_FLAG = {
  output: { short: '-o', value: 'FORMAT', help: 'table or json [table]' },
} satisfies FlagTable;

/** The exit codes beside those of every command. */
export const BUS_EXITS = { 69: "the bus can't be reached" };

/** A command line of the bus, with the configuration that it names. */
export interface BusLine<Names extends string> {
  readonly flags: Flags<Names>;
  readonly json: boolean;
  /** The arguments that are no flags. */
  readonly words: readonly string[];
  readonly bus: BusSettings;
  readonly journal: JournalSettings;
  readonly url: string;
  /** The sidecar's name, and the agent types of its clusters on the bus. */
  readonly name: string;
  readonly publishes: readonly string[];
  /** Whether its replicas share limits of callers. */
  readonly sharesLimits: boolean;
}

/** @param command for messages; @returns the exit code when the line or the configuration is wrong */
export async function readLine<Names extends string>(
  command: string,
  args: readonly string[],
  table: Readonly<Record<Names, FlagTable[string]>> & typeof OUTPUT_FLAG,
  takesWords = false,
): Promise<BusLine<Names> | number> {
  const { own, rest } = splitFlags(args, table);
  const read = readFlags<Names | 'output'>(own, table as never, {});
  if ('problems' in read) return refuse(command, read.problems);
  const unknown = misspelled(rest, table);
  if (unknown.length > 0) return refuse(command, unknown);
  const output = tableOrJson(read.flags.output);
  if (output === undefined) return refuse(command, ['--output takes table or json']);
  const isWord = takesWords ? wordsIn(rest) : () => false;
  const configured = await configure(rest.filter((_, at) => !isWord(at)));
  if ('exitCode' in configured) return configured.exitCode;
  const { bus, journal, llm, name, outbound } = configured.source.current;
  if (bus.url === undefined)
    return refuse(command, ['there is no bus: set bus.url, in the file that --config names or by --bus.url']);
  const publishes = [...outbound.clusters.values()].flatMap((cluster) => cluster.bus ?? []);
  const words = rest.filter((_, at) => isWord(at));
  return {
    flags: read.flags,
    json: output === 'json',
    words,
    bus,
    journal,
    url: bus.url,
    name,
    publishes,
    sharesLimits: llm.callers.length > 0,
  };
}

/** Which arguments are neither flags nor the value of one. */
function wordsIn(rest: readonly string[]): (at: number) => boolean {
  const words = new Set<number>();
  for (let at = 0; at < rest.length; at++) {
    if (!rest[at]!.startsWith('-')) words.add(at);
    else if (!rest[at]!.includes('=')) at++;
  }
  return (at) => words.has(at);
}

/**
 * Opens the log, uses it, and closes it.
 *
 * @param setUp makes what tasks of these agent types need: a file that is not there yet, or streams
 * @returns the exit code: that of `use`, or 69
 */
export async function withLog(
  command: string,
  { bus, url }: { readonly bus: BusSettings; readonly url: string },
  use: (log: TaskLog) => Promise<number>,
  setUp?: { readonly agentTypes: readonly string[] },
): Promise<number> {
  const place = busPlace(url);
  if (setUp === undefined && place.engine === 'local' && !existsSync(place.path)) {
    printError(
      `outrigger ${command}: ${place.path} is not there; a sidecar or "outrigger bus setup" makes it`,
    );
    return EXIT.UNAVAILABLE;
  }
  let log: TaskLog | undefined;
  try {
    log = await openLog(bus, url, '', setUp);
    return await use(log);
  } catch (error) {
    if (!(error instanceof LogUnavailableError || error instanceof LogSetupError)) throw error;
    printError(`outrigger ${command}: ${clean(error.message)}`);
    return EXIT.UNAVAILABLE;
  } finally {
    await log?.close();
  }
}
