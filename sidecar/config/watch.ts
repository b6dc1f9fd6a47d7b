/**
 * Notices that a file has changed, by asking for its stats every second.
 *
 * Why not file system events: a config map is mounted as a symbolic link to a link to a directory
 * that is swapped, so the file itself never changes; bind-mounted single files and network file
 * systems send no events at all; and editors that rename leave a watch on a file that is gone. One
 * stat a second costs nothing that can be measured and sees all of these, for it follows links.
 */
import { type BigIntStats, promises, statSync } from 'node:fs';

const WATCH_INTERVAL_MS = 1000;
/** Nobody pauses for so long in the middle of writing a few kilobytes. */
const STILL_MS = 100;
/** Longer than this nobody who asks for a reload waits. */
const MAX_STILL_MS = 5_000;

/** Stops the watching; nothing is called afterwards. */
export type StopWatching = () => void;

/**
 * Calls `onChange` each time the file has become another one and then held still for an interval:
 * a file that is being written may be empty, or half of itself, for a moment.
 * A file that goes away is a change too. The timer does not keep the process alive.
 *
 * @param known the fingerprint of before the file was last read, so that no change after it is missed
 */
export function watchFile(
  path: string,
  known: string,
  onChange: () => void,
  intervalMs = WATCH_INTERVAL_MS,
): StopWatching {
  let reported = known;
  let seen = known;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;

  const look = async () => {
    const stats = await promises.stat(path, { bigint: true }).catch((error: unknown) => error);
    if (stopped) return;
    const now = describe(stats);
    const still = now === seen;
    seen = now;
    if (still && now !== reported) {
      reported = now;
      onChange();
    }
    timer = setTimeout(look, intervalMs).unref();
  };
  timer = setTimeout(look, intervalMs).unref();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Resolves when the file has not changed for a moment: who asks for a reload may be writing it. */
export async function untilStill(path: string): Promise<void> {
  let seen = fingerprintOf(path);
  for (let waitedMs = 0; waitedMs < MAX_STILL_MS; waitedMs += STILL_MS) {
    await new Promise((resolve) => setTimeout(resolve, STILL_MS));
    const now = fingerprintOf(path);
    if (now === seen) return;
    seen = now;
  }
}

/** What tells one state of the file from another. */
export function fingerprintOf(path: string): string {
  try {
    return describe(statSync(path, { bigint: true }));
  } catch (error) {
    return describe(error);
  }
}

/** Changes with the content, the inode behind the links, and every write (ctime can not be set). */
function describe(stats: unknown): string {
  if (stats instanceof Error) return (stats as NodeJS.ErrnoException).code ?? 'unreadable';
  const { dev, ino, size, mtimeNs, ctimeNs } = stats as BigIntStats;
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}
