/** The interface of all commands, and their exit codes. */

/** Exit codes, after sysexits.h. */
export const EXIT = {
  OK: 0,
  /** The command did its work, and found something wrong. */
  PROBLEM: 1,
  /** The command line or the configuration is wrong. */
  USAGE: 64,
  /** A requested service or file does not exist. */
  UNAVAILABLE: 69,
  /** A defect of ours. */
  SOFTWARE: 70,
} as const;

/**
 * Runs the command with the arguments after its name. A number is the exit code; `undefined` leaves the exit code
 * unchanged.
 */
type CommandMain = (args: readonly string[]) => Promise<number | undefined>;

export interface Command {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandMain>;
}

/** Writes to standard output; a reader that has closed the pipe (`| head`) is not an error. */
export function print(text: string): void {
  process.stdout.once('error', ignoreClosedPipe);
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** Writes to standard error, without what a terminal would obey: a path or an argument may have control characters. */
export function printError(text: string): void {
  process.stderr.write(`${text.replaceAll(CONTROLS, '\ufffd')}\n`);
}

/** Says what is wrong with the command line. @returns the exit code for that */
export function refuse(command: string, problems: readonly string[]): number {
  printError(problems.map((problem) => `outrigger ${command}: ${problem}`).join('\n'));
  return EXIT.USAGE;
}

/** All but the line feed and the tab. */
const CONTROLS = /(?![\n\t])[\p{Cc}\p{Cf}\u2028\u2029]/gu;

function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
