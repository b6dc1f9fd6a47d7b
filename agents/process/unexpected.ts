import type { Logger } from 'pino';
import { loggedError } from '../runtime/redact.ts';
import { endProcess } from './end-process.ts';

/** sysexits.h EX_SOFTWARE: a defect of ours. */
const exitSoftware = 70;

/**
 * Ends the process on an error that nobody has caught, a thrown one or a rejection: with one line in the log, and exit code
 * 70. Its state is not known any more, and a process that goes on might answer its probes and nobody else.
 */
export function endOnUnexpectedErrors(log: Pick<Logger, 'fatal'>): void {
  let ending = false;
  const end = (error: unknown, origin: string): void => {
    // What fails on the way out must not begin anew.
    if (ending) return;
    ending = true;
    try {
      const err = loggedError(error ?? new Error(`${error} was thrown`), [
        process.env['OPENAI_API_KEY'] ?? '',
      ]);
      log.fatal(
        { err, origin },
        'nobody expected this error; the process ends with exit code 70, to be started anew',
      );
    } catch {
      // Without memory, or without a reader, there is no last word; the exit code remains.
    }
    endProcess(exitSoftware);
  };
  // A module that somebody loaded into the process may throw when it ends: that changes nothing about how it has ended.
  process.once('exit', () => {
    ending = true;
  });
  process.on('uncaughtException', end);
  // Node takes these to the handler above, unless NODE_OPTIONS says otherwise.
  process.on('unhandledRejection', (reason) => end(reason, 'unhandledRejection'));
}
