/**
 * Notices changes of a file by reading its stats every second.
 *
 * File system events do not suffice: a config map is mounted as a symbolic link to a link to a directory that the
 * kubelet swaps, so the file itself never changes; bind-mounted single files and network file systems send no events at
 * all; and an editor that renames leaves the watch on a deleted file. One stat a second has no measurable cost and sees
 * all of these changes, because it follows links.
 */
import { type BigIntStats, promises, statSync } from 'node:fs';

const WATCH_INTERVAL_MS = 1000;
/** No writer pauses for this long in the middle of writing a few kilobytes. */
const STILL_MS = 100;
/** A requested reload waits no longer than this. */
const MAX_STILL_MS = 5_000;

/** Stops the watch; it makes no more calls afterwards. */
export type StopWatching = () => void;

/**
 * Calls `onChange` each time the file has changed and then stayed unchanged for an interval, because a file may be
 * empty or incomplete for a moment while it is being written. Deletion of the file is a change too. The timer does not
 * keep the process alive.
 *
 * @param known the fingerprint from before the file was last read, so that no later change is missed
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

/** Resolves when the file has stopped changing: the operator who requests a reload may still be writing it. */
export async function untilStill(path: string): Promise<void> {
  let seen = fingerprintOf(path);
  for (let waitedMs = 0; waitedMs < MAX_STILL_MS; waitedMs += STILL_MS) {
    await new Promise((resolve) => setTimeout(resolve, STILL_MS));
    const now = fingerprintOf(path);
    if (now === seen) return;
    seen = now;
  }
}

/** Identifies one state of the file. */
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
