/** `outrigger status`: the fleet at a glance, one line a sidecar. */
import { AddressError } from '../../net/address.ts';
import { parseDurationMs } from '../../settings/duration.ts';
import { EXIT, print, printError, refuse } from '../command.ts';
import { configure } from '../configure.ts';
import { type Flags, type FlagTable, misspelled, readFlags, splitFlags } from '../flags.ts';
import { CONFIG_FLAGS, type HelpPage, helps } from '../help.ts';
import { CLEAR, LOOK_FLAGS, repeat, tableOrJson } from '../watch.ts';
import { atAddress, byDns, FleetError, type Found, MAX_SIDECARS, METRICS_PORT } from './fleet.ts';
import { askFleet, textOf } from './report.ts';
import { byService } from './service.ts';

const FLAGS = {
  at: { value: 'HOST:PORT,…', many: true, help: 'Sidecars by address; a host alone means port 15020' },
  dns: { value: 'NAME:PORT', many: true, help: 'Every address of a DNS name, such as a headless Service' },
  service: {
    value: 'NAMESPACE/NAME',
    many: true,
    help: 'The pods behind a Kubernetes Service: directly from inside the cluster, by the kubeconfig from outside',
  },
  port: { value: 'PORT', help: 'The metrics port of the sidecars [15020]' },
  timeout: { value: 'DURATION', help: 'How long one sidecar may take to answer [3s]' },
  ...LOOK_FLAGS,
} satisfies FlagTable;

const HELP: HelpPage = {
  usage: ['status [--at HOST:PORT,… | --dns NAME:PORT | --service NAMESPACE/NAME] [--watch] [--output json]'],
  about:
    'Shows one line a sidecar: version, state, the calls of the last minute (inbound; outbound where there is no app), open circuits, ejected endpoints and problems. It reads /status at the metrics port, which other pods can reach; nobody needs to open the admin port. Without --at, --dns and --service it asks the sidecar of this machine.',
  flags: { ...FLAGS, ...CONFIG_FLAGS },
  exits: {
    0: 'every sidecar is ready or drains, and none has a bad problem',
    1: 'one is unreachable, not ready, or has one',
    69: 'no sidecar was found',
  },
  more: 'docs/observability.md explains the columns and the permissions; docs/three-am.md says what to do.',
};

const MAX_TIMEOUT_MS = 60_000;

interface Options {
  readonly timeoutMs: number;
  readonly json: boolean;
  readonly find: () => Promise<Found[]>;
}

export async function status(args: readonly string[]): Promise<number> {
  if (helps(args, HELP)) return EXIT.OK;
  const { own, rest } = splitFlags(args, FLAGS);
  const read = readFlags(own, FLAGS, {});
  if ('problems' in read) return refuse('status', read.problems);
  const unknown = misspelled(rest, FLAGS);
  if (unknown.length > 0) return refuse('status', unknown);
  const { flags } = read;
  const named = flags.at.length + flags.dns.length + flags.service.length > 0;
  const local = named ? undefined : await localMetrics(rest);
  if (typeof local === 'number') return local;
  if (named && rest.length > 0)
    return refuse('status', [
      `${JSON.stringify(rest[0]!.slice(0, 60))} is not expected here; see outrigger status --help`,
    ]);
  const options = readOptions(flags, local);
  if ('problems' in options) return refuse('status', options.problems);
  return repeat(flags.watch.length > 0, (clears) => show(options, clears, flags.watch.length > 0));
}

/** The metrics address of the configuration; a number is an exit code. */
async function localMetrics(rest: readonly string[]): Promise<string | number> {
  const configured = await configure(rest);
  return 'exitCode' in configured ? configured.exitCode : configured.source.current.metrics.listen;
}

function readOptions(
  flags: Flags<keyof typeof FLAGS>,
  local: string | undefined,
): Options | { problems: string[] } {
  const problems: string[] = [];
  const port = Number(flags.port[0] ?? METRICS_PORT);
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    problems.push('--port takes a number from 1 to 65535');
  const timeoutMs = parseDurationMs(flags.timeout[0] ?? '3s') ?? 0;
  if (timeoutMs < 1 || timeoutMs > MAX_TIMEOUT_MS)
    problems.push('--timeout takes a duration up to 1m, such as 3s');
  const output = tableOrJson(flags.output);
  if (output === undefined) problems.push('--output takes table or json');
  for (const name of flags.service)
    if (!/^([a-z0-9-]{1,63}\/)?[a-z0-9-]{1,63}$/.test(name))
      problems.push('--service takes NAMESPACE/NAME, such as agents/research');
  const addresses = [...flags.at.flatMap((list) => list.split(',')), ...(local === undefined ? [] : [local])];
  const at: Found[] = [];
  if (problems.length > 0) return { problems };
  for (const text of addresses)
    try {
      at.push(atAddress(text, port));
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      problems.push(`--at: ${error.message}`);
    }
  if (problems.length > 0) return { problems };
  const find = async (): Promise<Found[]> =>
    [
      at,
      ...(await Promise.all(flags.dns.map((name) => byDns(name, port)))),
      ...(await Promise.all(flags.service.map((name) => byService(name, port)))),
    ].flat();
  return { timeoutMs, json: output === 'json', find };
}

async function show({ timeoutMs, json, find }: Options, clears: boolean, watch: boolean): Promise<number> {
  let fleet: Found[];
  try {
    fleet = await find();
  } catch (error) {
    if (error instanceof FleetError || error instanceof AddressError) {
      printError(`outrigger status: ${error.message}`);
      return error instanceof FleetError ? EXIT.UNAVAILABLE : EXIT.USAGE;
    }
    throw error;
  }
  if (fleet.length === 0) {
    printError('outrigger status: no sidecar was found; the Service has no endpoints, or has another name');
    return EXIT.UNAVAILABLE;
  }
  if (fleet.length > MAX_SIDECARS)
    printError(`outrigger status: asks the first ${MAX_SIDECARS} of ${fleet.length}; name fewer`);
  const rows = await askFleet(fleet.slice(0, MAX_SIDECARS), timeoutMs);
  const at = new Date().toISOString();
  const wrong = rows.some((row) => row.wrong);
  if (json) print(JSON.stringify({ at, ok: !wrong, sidecars: rows }, null, watch ? undefined : 2));
  else print(`${clears ? CLEAR : ''}${watch ? `${at}\n` : ''}${textOf(rows)}`);
  return wrong ? EXIT.PROBLEM : EXIT.OK;
}
