import { endProcess } from './end-process.ts';

/** sysexits.h EX_SOFTWARE: a defect of ours. */
export const EXIT_SOFTWARE = 70;

/**
 * Ends the process on an error that nobody has caught, a thrown one or a rejection, with exit code 70, after its last words.
 * Its state is not known any more: to go on would risk a process whose probes say that it lives while it serves nobody.
 *
 * @param tell writes the error where somebody reads it; `origin` is Node's
 */
export function endOnUncaughtErrors(tell: (error: unknown, origin: string) => void): void {
  let ending = false;
  const end = (error: unknown, origin: string): void => {
    // What fails on the way out must not begin anew.
    if (ending) return;
    ending = true;
    try {
      tell(error ?? new Error(`${error} was thrown`), origin);
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
