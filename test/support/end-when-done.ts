// Ends a test's process that something keeps alive after its last test, and says what it was.
import type { Test } from 'tap';

/** A connection whose other end was killed may take this long to notice. */
const PATIENCE_MS = 15_000;

/**
 * For files whose tests leave connections in every state that there is: the runner would wait for such a process until the
 * file's time is over, and count the file as failed although each of its tests has passed.
 */
export function endWhenDone(t: Pick<Test, 'teardown'>): void {
  t.teardown(() => {
    const timer = setTimeout(() => {
      const handles = (process as unknown as { _getActiveHandles(): object[] })._getActiveHandles();
      console.error(`still open: ${process.getActiveResourcesInfo().join(', ')}`);
      for (const handle of handles) console.error(describe(handle as Handle));
      process.exit();
    }, PATIENCE_MS);
    timer.unref();
  });
}

interface Handle {
  readonly localPort?: number;
  readonly remotePort?: number;
  readonly destroyed?: boolean;
  readonly writableLength?: number;
  readonly spawnargs?: readonly string[];
  isPaused?(): boolean;
}

function describe(handle: Handle): string {
  const { localPort, remotePort, destroyed, writableLength, spawnargs } = handle;
  const paused = handle.isPaused?.();
  const facts = { localPort, remotePort, destroyed, writableLength, paused, spawnargs };
  return `${handle.constructor.name} ${JSON.stringify(facts)}`;
}
