/** The help of a command: what it does, its flags and its exit codes, on one screen. */
import { print } from './command.ts';
import type { FlagTable } from './flags.ts';

export interface HelpPage {
  /** How to call it; a line each. */
  readonly usage: readonly string[];
  readonly about: string;
  readonly flags: FlagTable;
  /** Exit codes beside 0, 64 and 70. */
  readonly exits?: Readonly<Record<number, string>>;
  /** Where to read on. */
  readonly more?: string;
}

const WIDTH = 100;
/** The column of the descriptions; a longer flag has a line of its own. */
const COLUMN = 30;

/** The flags that name a configuration, for commands that read one. */
export const CONFIG_FLAGS = {
  config: { short: '-c', value: 'FILE', env: 'OUTRIGGER_CONFIG', help: 'The YAML file of the configuration' },
} satisfies FlagTable;

export const SETTINGS_NOTE =
  'Each setting is a flag, too (--inbound.app 127.0.0.1:7000): `outrigger run --help --all` lists them.';

/** Prints the page if the arguments ask for it. */
export function helps(args: readonly string[], page: HelpPage): boolean {
  if (!args.includes('--help') && !args.includes('-h')) return false;
  print(textOf(page));
  return true;
}

function textOf({ usage, about, flags, exits = {}, more }: HelpPage): string {
  const lines = [...usage.map((line) => `outrigger ${line}`), '', ...wrap(about, 0)];
  const described = Object.entries(flags);
  if (described.length > 0) lines.push('', ...described.flatMap(([name, flag]) => flagLines(name, flag)));
  const codes = Object.entries({ 0: 'done', ...exits, 64: 'the command line or the configuration is wrong' });
  lines.push(
    '',
    ...wrap(`Exit code: ${codes.map(([code, meaning]) => `${code} ${meaning}`).join('; ')}.`, 0),
  );
  if (more !== undefined) lines.push(...wrap(more, 0));
  return lines.join('\n');
}

function flagLines(name: string, { short, env, value = 'VALUE', bare, help }: FlagTable[string]): string[] {
  const left = `  ${short === undefined ? '' : `${short}, `}--${name}${bare ? '' : ` ${value}`}`;
  const lines = wrap(`${help}${env === undefined ? '' : ` [${env}]`}`, COLUMN);
  if (left.length + 2 > COLUMN) return [left, ...lines];
  return [left.padEnd(COLUMN) + lines[0]!.slice(COLUMN), ...lines.slice(1)];
}

function wrap(text: string, indent: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + word.length + 1 > WIDTH) {
      lines.push(line);
      line = '';
    }
    line += (line === '' ? '' : ' ') + word;
  }
  return [...lines, line].map((one) => ' '.repeat(indent) + one);
}
