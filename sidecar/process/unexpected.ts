/** Logs an uncaught error and ends the process. */
import { writeSync } from 'node:fs';
import { endOnUncaughtErrors } from '../node/uncaught-errors.ts';
import type { Logger } from '../telemetry/log.ts';

const STANDARD_ERROR = 2;

const WHAT =
  'this error is unexpected, so the state of the process is unknown: it ends with exit code 70 and has to be restarted; ' +
  'please report this line as a defect';

/**
 * Ends the process on an uncaught error, with one log line at any log level and exit code 70.
 * `docs/process-failures.md` says which errors never come here.
 */
export function endOnUnexpectedErrors(log: Pick<Logger, 'fatal' | 'isLevelEnabled'>): void {
  endOnUncaughtErrors((error, origin) => {
    if (log.isLevelEnabled('fatal')) log.fatal({ err: error, origin }, WHAT);
    else writeSync(STANDARD_ERROR, `${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
  });
}
