/** Ends the process on errors that no code has caught. */
import { endProcess } from './end-process.ts';

/** sysexits.h EX_SOFTWARE: a defect of ours. */
export const EXIT_SOFTWARE = 70;

/**
 * Ends the process with exit code 70 on an uncaught exception or an unhandled rejection, after `report` has reported it. The
 * state of the process is unknown then: if it continued, its probes could pass while it serves no caller.
 *
 * @param report logs the error, for example; `origin` is Node's
 */
export function endOnUncaughtErrors(report: (error: unknown, origin: string) => void): void {
  let ending = false;
  const end = (error: unknown, origin: string): void => {
    // An error during the exit must not start it again.
    if (ending) return;
    ending = true;
    try {
      report(error ?? new Error(`${error} was thrown`), origin);
    } catch {
      // Without memory or a reader there is no report; the exit code remains.
    }
    endProcess(EXIT_SOFTWARE);
  };
  // A preloaded module may throw in its exit handler: the process has ended by then, and keeps its exit code.
  process.once('exit', () => {
    ending = true;
  });
  process.on('uncaughtException', end);
  // Node passes these to the handler above, unless NODE_OPTIONS says otherwise.
  process.on('unhandledRejection', (reason) => end(reason, 'unhandledRejection'));
}
