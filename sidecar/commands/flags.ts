/** Parses `--name value`, `--name=value` and short forms, for commands whose flags are no settings of the sidecar. */

export interface FlagDescription {
  /** A short form: `-f`. */
  readonly short?: string;
  /** The environment variable to read when the flag is absent. */
  readonly env?: string;
  /** The flag may repeat; all values count. */
  readonly many?: boolean;
  readonly help: string;
}

export type Flags<Names extends string> = Record<Names, readonly string[]>;

/** Parses the arguments by the table. Returns every problem at once, each with what to write instead. */
export function readFlags<Names extends string>(
  args: readonly string[],
  table: Readonly<Record<Names, FlagDescription>>,
  env: Readonly<Record<string, string | undefined>>,
): { flags: Flags<Names> } | { problems: string[] } {
  const names = Object.keys(table) as Names[];
  const found = Object.fromEntries(names.map((name) => [name, [] as string[]])) as Record<Names, string[]>;
  const problems: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const [written = '', joined] = splitOnce(args[index]!);
    const name = names.find(
      (candidate) => written === `--${candidate}` || written === table[candidate].short,
    );
    if (name === undefined) {
      problems.push(
        `${JSON.stringify(args[index]!.slice(0, 60))} is not expected here; there are ${names.map((known) => `--${known}`).join(', ')}`,
      );
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

export function flagsHelp(table: Readonly<Record<string, FlagDescription>>): string {
  return Object.entries(table)
    .map(([name, { short, env, help }]) => {
      const names = `${short === undefined ? '' : `${short}, `}--${name} VALUE`;
      return `  ${names}${env === undefined ? '' : ` [${env}]`}\n      ${help}`;
    })
    .join('\n');
}

function splitOnce(arg: string): [string, string | undefined] {
  const equals = arg.startsWith('--') ? arg.indexOf('=') : -1;
  return equals < 0 ? [arg, undefined] : [arg.slice(0, equals), arg.slice(equals + 1)];
}
