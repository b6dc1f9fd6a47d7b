/** What every command is, and how commands end. */

/** Exit codes, after sysexits.h. */
export const EXIT = {
  OK: 0,
  /** The command line or the configuration is wrong. */
  USAGE: 64,
  /** What was asked for is not there. */
  UNAVAILABLE: 69,
  /** A defect of ours. */
  SOFTWARE: 70,
} as const;

/**
 * Runs with the arguments after its name. The number is the exit code; `undefined` leaves it as it is.
 */
type CommandMain = (args: readonly string[]) => Promise<number | undefined>;

export interface Command {
  readonly name: string;
  readonly synopsis: string;
  readonly summary: string;
  readonly load: () => Promise<CommandMain>;
}

/** Writes to standard output; a reader that has gone away (`| head`) is not an error. */
export function print(text: string): void {
  process.stdout.once('error', ignoreClosedPipe);
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** Writes to standard error. */
export function complain(text: string): void {
  process.stderr.write(`${text}\n`);
}

function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
