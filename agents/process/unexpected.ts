/** Handles errors that no code has caught. */
import type { Logger } from 'pino';
import { endOnUncaughtErrors } from '../../sidecar/node/uncaught-errors.ts';
import { loggedError } from './redact.ts';

/** Ends the process on an uncaught error: with one log line without keys, and exit code 70. */
export function endOnUnexpectedErrors(log: Pick<Logger, 'fatal'>): void {
  endOnUncaughtErrors((error, origin) => {
    log.fatal(
      { err: loggedError(error, [process.env['OPENAI_API_KEY'] ?? '']), origin },
      'unexpected error; the process exits with code 70 for a restart',
    );
  });
}
