/** The shared parts of the commands that serve until a signal ends them: their addresses, and their exit codes. */
import { AddressError, parseAddress } from '../net/address.ts';
import { endProcessSoon } from '../process/end-process.ts';
import { endOnUnexpectedErrors } from '../process/unexpected.ts';
import type { Logger } from '../telemetry/log.ts';
import { EXIT } from './command.ts';

/**
 * Serves, and returns the exit code. The process ends soon afterwards.
 *
 * @param ListenError the error of an address that can't be listened on
 */
export async function serveUntilStopped(
  log: Logger,
  ListenError: new (...args: never[]) => Error,
  serve: () => Promise<void>,
): Promise<number> {
  endOnUnexpectedErrors(log);
  try {
    await serve();
    endProcessSoon(EXIT.OK);
    return EXIT.OK;
  } catch (error) {
    const expected = error instanceof ListenError;
    endProcessSoon(expected ? EXIT.UNAVAILABLE : EXIT.SOFTWARE);
    if (!expected) throw error;
    log.fatal(error.message);
    return EXIT.UNAVAILABLE;
  }
}

/** Reads the address of a flag. Adds to `problems` why one can't be listened on. */
export function listenAddress(
  flags: Readonly<Record<string, readonly string[]>>,
  name: 'listen' | 'health' | 'metrics',
  byDefault: string,
  problems: string[],
): string {
  const [address = byDefault] = flags[name] ?? [];
  try {
    parseAddress(address, { forListening: true });
  } catch (error) {
    if (!(error instanceof AddressError)) throw error;
    problems.push(`--${name}: ${error.message}`);
  }
  return address;
}
