/** Parses `--name value`, `--name=value` and short forms, for commands whose flags are no settings of the sidecar. */
import { nearest } from '../config/problems.ts';

export interface FlagDescription {
  /** A short form: `-f`. */
  readonly short?: string;
  /** The environment variable to read when the flag is absent. */
  readonly env?: string;
  /** The flag may repeat; all values count. */
  readonly many?: boolean;
  /** The name of the value in `--help`. */
  readonly value?: string;
  /** The flag takes no value. */
  readonly bare?: boolean;
  readonly help: string;
}

export type FlagTable = Readonly<Record<string, FlagDescription>>;
export type Flags<Names extends string> = Record<Names, readonly string[]>;

/**
 * Parses the arguments by the table. Returns every problem at once, each with what to write instead. A flag without a value
 * has the value `true` when it is given.
 */
export function readFlags<Names extends string>(
  args: readonly string[],
  table: Readonly<Record<Names, FlagDescription>>,
  env: Readonly<Record<string, string | undefined>>,
): { flags: Flags<Names> } | { problems: string[] } {
  const names = Object.keys(table) as Names[];
  const found = Object.fromEntries(names.map((name) => [name, [] as string[]])) as Record<Names, string[]>;
  const problems: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const [written, joined] = splitOnce(args[index]!);
    const name = nameOf(written, table);
    if (name === undefined) {
      problems.push(notExpected(args[index]!, written, names));
      continue;
    }
    if (table[name].bare) {
      if (joined !== undefined) problems.push(`--${name} takes no value`);
      else found[name].push('true');
      continue;
    }
    const value = joined ?? args[++index];
    if (value === undefined || value === '') problems.push(`--${name} has no value`);
    else if (found[name].length > 0 && !table[name].many) problems.push(`--${name} is given twice`);
    else found[name].push(value);
  }
  for (const name of names) {
    const variable = table[name].env;
    const value = variable === undefined ? undefined : env[variable];
    if (found[name].length === 0 && value !== undefined && value !== '')
      found[name].push(...(table[name].many ? value.split(',') : [value]));
  }
  return problems.length > 0 ? { problems } : { flags: found };
}

/** Separates the flags of the table from the other arguments, which name a configuration. */
export function splitFlags(args: readonly string[], table: FlagTable): { own: string[]; rest: string[] } {
  const own: string[] = [];
  const rest: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const [written, joined] = splitOnce(args[index]!);
    const name = nameOf(written, table);
    if (name === undefined) rest.push(args[index]!);
    else if (joined !== undefined || table[name]!.bare || index + 1 === args.length) own.push(args[index]!);
    else own.push(args[index]!, args[++index]!);
  }
  return { own, rest };
}

/** The settings that are no path of two words: a flag of one word is else one of the command's own, misspelled. */
const SHORT_SETTINGS: ReadonlySet<string> = new Set(['--config', '-c', '--name', '--version']);

/** The arguments beside the own flags that can be no setting either, each with what to write instead. */
export function misspelled(rest: readonly string[], table: FlagTable): string[] {
  const names = [...Object.keys(table), 'config'];
  return rest
    .map((arg) => ({ arg, written: splitOnce(arg)[0] }))
    .filter(({ written }) => /^--?[^.]*$/.test(written) && !SHORT_SETTINGS.has(written))
    .map(({ arg, written }) => notExpected(arg, written, names));
}

function nameOf<Names extends string>(
  written: string,
  table: Readonly<Record<Names, FlagDescription>>,
): Names | undefined {
  return (Object.keys(table) as Names[]).find(
    (candidate) => written === `--${candidate}` || written === table[candidate].short,
  );
}

function notExpected(arg: string, written: string, names: readonly string[]): string {
  const known = names.map((name) => `--${name}`);
  const close = nearest(written, known);
  const remedy = close === undefined ? `there are ${known.join(', ')}` : `did you mean ${close}?`;
  return `${JSON.stringify(arg.slice(0, 60))} is not expected here; ${remedy}`;
}

function splitOnce(arg: string): [string, string | undefined] {
  const equals = arg.startsWith('--') ? arg.indexOf('=') : -1;
  return equals < 0 ? [arg, undefined] : [arg.slice(0, equals), arg.slice(equals + 1)];
}
