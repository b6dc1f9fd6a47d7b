import { closeSync, openSync } from 'node:fs';

/**
 * Loaded before the program of every process of the local system (node --import). The standard input is a
 * pipe that the starter holds open and never writes to: its end means that the starter is gone, however it
 * died, and nobody is left who would stop this process.
 */
const lastWordsMs = 2000;

process.stdin.resume();
process.stdin.once('end', () => {
  muteOutput();
  setTimeout(() => process.exit(1), lastWordsMs).unref();
  process.kill(process.pid, 'SIGTERM');
});
process.stdin.once('error', () => process.exit(1));
// The pipe alone must not keep a process running that has nothing else to do.
(process.stdin as unknown as { unref?: () => void }).unref?.();

/**
 * Nobody reads the output any more, and a program that cannot write its last lines may wait for ever. A new
 * file gets the lowest number that is free (POSIX open), which is the one that was closed just before.
 */
function muteOutput(): void {
  for (const descriptor of [1, 2]) {
    closeSync(descriptor);
    openSync('/dev/null', 'w');
  }
}
