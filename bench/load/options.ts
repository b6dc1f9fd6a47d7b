// Reads the command line of `npm run load`; errors say what to write instead.
import { parseArgs } from 'node:util';
import { parseDuration } from '../../scripts/reports/units.ts';
import { parseLimit, THRESHOLDS, type Threshold } from './thresholds.ts';

export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly serverName?: string;
}

export interface LoadOptions {
  /** `HOST:PORT` */
  readonly target: string;
  readonly ratePerSecond: number;
  readonly durationMs: number;
  readonly warmupMs: number;
  readonly stream: boolean;
  readonly taskType: string;
  /** Undefined: words, up to `inputBytes`. */
  readonly input?: string;
  readonly inputBytes: number;
  readonly metadata: readonly (readonly [key: string, value: string])[];
  readonly authority?: string;
  readonly deadlineMs: number;
  readonly connections: number;
  readonly maxInFlight: number;
  /** Undefined: cleartext. */
  readonly tls?: TlsFiles;
  readonly thresholds: readonly Threshold[];
  /** The 99th percentile of the schedule lag above which a run proves nothing. */
  readonly maxLagMs: number;
  /** Where the report is written, without `.json` and `.html`. */
  readonly out?: string;
}

/** Something in the arguments that can't be carried out. */
export class UsageError extends Error {}

const LONGEST_RUN_MS = 24 * 3_600_000;
const MOST_PER_SECOND = 1_000_000;
/** A sidecar and the agents of this repository take no longer message. */
const MOST_INPUT_BYTES = 10 * 1024 * 1024 - 1024;

const plain = {
  target: { type: 'string' },
  rate: { type: 'string' },
  duration: { type: 'string', default: '30s' },
  warmup: { type: 'string', default: '2s' },
  stream: { type: 'boolean', default: false },
  'task-type': { type: 'string', default: 'research' },
  input: { type: 'string' },
  'input-bytes': { type: 'string', default: '100' },
  metadata: { type: 'string', multiple: true, default: [] as string[] },
  authority: { type: 'string' },
  deadline: { type: 'string', default: '60s' },
  connections: { type: 'string', default: '4' },
  'max-in-flight': { type: 'string', default: '5000' },
  tls: { type: 'boolean', default: false },
  ca: { type: 'string' },
  cert: { type: 'string' },
  key: { type: 'string' },
  'server-name': { type: 'string' },
  'max-lag': { type: 'string', default: '20ms' },
  out: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

export const USAGE = `npm run load -- --target HOST:PORT --rate N [options]

  --target HOST:PORT     a sidecar's inbound or outbound listener, or an agent
  --rate N               calls a second; each starts when it is due, whether or not earlier ones have ended
  --duration 30s         the measured time, at most 24h
  --warmup 2s            the time before it, at the same rate, not counted; 0s for none
  --stream               StreamProcess in place of ProcessTask
  --task-type research   TaskRequest.agent_type
  --input TEXT           TaskRequest.input, or
  --input-bytes 100      words up to that length
  --metadata KEY=VALUE   metadata of each call, repeatable; no report contains the values
  --authority NAME       the called agent, for an outbound listener
  --deadline 60s         of each call, from its start
  --connections 4        calls use them in turn
  --max-in-flight 5000   the most open calls; further ones count as not made
  --tls                  and --ca, --cert, --key FILE, --server-name NAME; each of them implies it
  --out PATH             the report: PATH.json and PATH.html (bench/results/load)
  --max-lag 20ms         the 99th percentile of the generator's lag above which the run is invalid

It fails when a threshold is exceeded:

${Object.entries(THRESHOLDS)
  .map(([name, { unit, help }]) => `  --${name} ${unit === 'percent' ? '1%' : '50ms'}`.padEnd(31) + help)
  .join('\n')}

Exit code: 0 passed · 1 a threshold was exceeded, or no call succeeded · 3 the generator was late · 64 wrong
arguments · 69 no connection to the target
`;

/**
 * @returns undefined for --help
 * @throws UsageError whose message says what to write
 */
export function readOptions(argv: readonly string[]): LoadOptions | undefined {
  const values = parsed(argv);
  if (values.help) return undefined;
  const { input, authority, out } = values;
  const tls = tlsOf(values);
  const options: LoadOptions = {
    target: target(values.target),
    ratePerSecond: numberIn('rate', values.rate, { above: 0, most: MOST_PER_SECOND, example: '100' }),
    durationMs: duration('duration', values.duration, { least: 1, most: LONGEST_RUN_MS }),
    warmupMs: duration('warmup', values.warmup, { least: 0, most: LONGEST_RUN_MS }),
    stream: values.stream,
    taskType: values['task-type'],
    inputBytes: whole('input-bytes', values['input-bytes'], { least: 1, most: MOST_INPUT_BYTES }),
    metadata: values.metadata.map(keyAndValue),
    deadlineMs: duration('deadline', values.deadline, { least: 1, most: LONGEST_RUN_MS }),
    connections: whole('connections', values.connections, { least: 1, most: 1000 }),
    maxInFlight: whole('max-in-flight', values['max-in-flight'], { least: 1, most: 100_000 }),
    thresholds: thresholdsOf(values, values.stream),
    maxLagMs: duration('max-lag', values['max-lag'], { least: 0, most: LONGEST_RUN_MS }),
    ...(input === undefined ? {} : { input }),
    ...(authority === undefined ? {} : { authority }),
    ...(tls === undefined ? {} : { tls }),
    ...(out === undefined ? {} : { out }),
  };
  if ((options.durationMs * options.ratePerSecond) / 1000 < 1)
    throw new UsageError('--rate and --duration allow not even one call: raise one of them');
  if (input !== undefined && input.trim() === '')
    throw new UsageError('--input must not be empty: no agent takes an empty task');
  return options;
}

function parsed(argv: readonly string[]) {
  const limits = Object.fromEntries(Object.keys(THRESHOLDS).map((name) => [name, { type: 'string' }]));
  try {
    // The thresholds are read by their names later.
    const options = { ...limits, ...plain } as typeof plain;
    return parseArgs({ args: [...argv], options }).values;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // It would print the argument, which may be the rest of a secret that was not quoted.
    if (code === 'ERR_PARSE_ARGS_UNEXPECTED_POSITIONAL')
      throw new UsageError('an argument belongs to no option: quote values that contain spaces');
    throw new UsageError(`${message.split(/[.\n]/)[0]!}; --help lists the options`);
  }
}

function target(text: string | undefined): string {
  if (text === undefined)
    throw new UsageError(
      '--target is missing: set the address of a sidecar or agent, such as 127.0.0.1:15006',
    );
  const match = /^(?:\[[0-9a-fA-F:.]+\]|[^:/[\]\s]+):(\d{1,5})$/.exec(text);
  const port = Number(match?.[1] ?? 0);
  if (port < 1 || port > 65_535)
    throw new UsageError(
      `--target ${text} is not HOST:PORT: write it without a scheme or path, such as 127.0.0.1:15006 or [::1]:15006`,
    );
  return text;
}

function numberIn(
  name: string,
  text: string | undefined,
  { above, most, example }: { above: number; most: number; example: string },
): number {
  if (text === undefined) throw new UsageError(`--${name} is missing: for example --${name} ${example}`);
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (!(value > above && value <= most))
    throw new UsageError(
      `--${name} ${text} must be a number above ${above} and at most ${most}, such as ${example}`,
    );
  return value;
}

function whole(name: string, text: string, { least, most }: { least: number; most: number }): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most))
    throw new UsageError(`--${name} ${text} must be a whole number from ${least} to ${most}`);
  return value;
}

function duration(name: string, text: string, { least, most }: { least: number; most: number }): number {
  const ms = parseDuration(text);
  if (ms === undefined)
    throw new UsageError(
      `--${name} ${text} is not a duration: write a number and its unit, such as 30s or 250ms`,
    );
  if (ms < least || ms > most) throw new UsageError(`--${name} ${text} must be from ${least}ms to 24h`);
  return ms;
}

function keyAndValue(text: string): readonly [string, string] {
  const at = text.indexOf('=');
  const key = text.slice(0, Math.max(0, at)).toLowerCase();
  // The value may be a secret, and so may be all of a text that has no key.
  if (!/^[0-9a-z_.-]+$/.test(key))
    throw new UsageError('--metadata must be KEY=VALUE, its key of letters, digits, "-", "_" and "."');
  if (key.startsWith('grpc-'))
    throw new UsageError(`--metadata ${key}: gRPC reserves keys that begin with grpc-; choose another`);
  const value = text.slice(at + 1);
  if (!key.endsWith('-bin') && !/^[\x20-\x7e]*$/.test(value))
    throw new UsageError(
      `--metadata ${key}: its value has characters that are not ASCII; use the key ${key}-bin and a base64 value`,
    );
  return [key, value];
}

type Values = ReturnType<typeof parsed>;

function tlsOf(values: Values): TlsFiles | undefined {
  const { ca, cert, key, 'server-name': serverName } = values;
  if ((cert === undefined) !== (key === undefined))
    throw new UsageError('--cert and --key go together: set the certificate and its private key');
  const given = ca !== undefined || cert !== undefined || serverName !== undefined;
  if (!values.tls && !given) return undefined;
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(serverName === undefined ? {} : { serverName }),
  };
}

function thresholdsOf(values: Values, stream: boolean): Threshold[] {
  const thresholds: Threshold[] = [];
  const texts: Record<string, unknown> = values;
  for (const [name, { unit, streamOnly }] of Object.entries(THRESHOLDS)) {
    const text = texts[name];
    if (typeof text !== 'string') continue;
    const limit = parseLimit(name, text);
    if (limit === undefined)
      throw new UsageError(
        unit === 'percent'
          ? `--${name} ${text} is not a share: write 0% to 100%, such as 1%`
          : `--${name} ${text} is not a duration: write a number and its unit, such as 50ms`,
      );
    if (streamOnly && !stream) throw new UsageError(`--${name} applies to streams only: add --stream`);
    thresholds.push({ name, limit });
  }
  return thresholds;
}
