/** Ends a process of the local system when its starter has ended. */
import { closeSync, openSync } from 'node:fs';

/**
 * Loaded before the program of every process of the local system (node --import). The standard input is a pipe that the
 * starter holds open and never writes to. Its end means that the starter has ended, for whatever reason, and no other
 * process will stop this one.
 */
const lastWordsMs = 2000;

process.stdin.resume();
process.stdin.once('end', () => {
  muteOutput();
  setTimeout(() => process.exit(1), lastWordsMs).unref();
  process.kill(process.pid, 'SIGTERM');
});
process.stdin.once('error', () => process.exit(1));
// The pipe alone must not keep the process running.
(process.stdin as unknown as { unref?: () => void }).unref?.();

/**
 * Nobody reads the output any more, and a program that cannot write its last lines may wait for ever. A new file gets
 * the lowest free descriptor (POSIX open), which is the one closed just before.
 */
function muteOutput(): void {
  for (const descriptor of [1, 2]) {
    closeSync(descriptor);
    openSync('/dev/null', 'w');
  }
}
