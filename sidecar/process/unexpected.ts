import { writeSync } from 'node:fs';
import type { Logger } from '../telemetry/log.ts';
import { endProcess } from './end-process.ts';

/** sysexits.h EX_SOFTWARE: a defect of ours. */
export const EXIT_SOFTWARE = 70;
const STANDARD_ERROR = 2;

const WHAT =
  'nobody expected this error, so the state of the process is not known: it ends with exit code 70, to be started anew; ' +
  'please report this line as a defect';

/**
 * Ends the process on an error that nobody has caught, a thrown one or a rejection: with one line in the log, and exit code
 * 70. To go on would risk a process whose probes say that it lives while it serves nobody. `docs/process-failures.md` says
 * which errors never come here.
 */
export function endOnUnexpectedErrors(log: Pick<Logger, 'fatal' | 'isLevelEnabled'>): void {
  let ending = false;
  const end = (error: unknown, origin: string): void => {
    // What fails on the way out must not begin anew.
    if (ending) return;
    ending = true;
    try {
      if (log.isLevelEnabled('fatal'))
        log.fatal({ err: error ?? new Error(`${error} was thrown`), origin }, WHAT);
      else
        writeSync(
          STANDARD_ERROR,
          `${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
        );
    } catch {
      // Without memory, or without a reader, there is no last word; the exit code remains.
    }
    endProcess(EXIT_SOFTWARE);
  };
  // A module that somebody loaded into the process may throw when it ends: that changes nothing about how it has ended.
  process.once('exit', () => {
    ending = true;
  });
  process.on('uncaughtException', end);
  // Node takes these to the handler above, unless NODE_OPTIONS says otherwise.
  process.on('unhandledRejection', (reason) => end(reason, 'unhandledRejection'));
}
