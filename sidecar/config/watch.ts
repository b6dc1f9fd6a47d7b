/**
 * Notices that a file has changed, by asking for its stats every second.
 *
 * Why not file system events: a config map is mounted as a symbolic link to a link to a directory
 * that is swapped, so the file itself never changes; bind-mounted single files and network file
 * systems send no events at all; and editors that rename leave a watch on a file that is gone. One
 * stat a second costs nothing that can be measured and sees all of these, for it follows links.
 */
import { type BigIntStats, promises } from 'node:fs';

export const WATCH_INTERVAL_MS = 1000;

/** Stops the watching; nothing is called afterwards. */
export type StopWatching = () => void;

/**
 * Calls `onChange` each time the file has become another one and then held still for an interval:
 * a file that is being written may be empty for a moment, and an empty configuration is a valid one.
 * A file that goes away is a change too. The timer does not keep the process alive.
 */
export function watchFile(path: string, onChange: () => void, intervalMs = WATCH_INTERVAL_MS): StopWatching {
  let reported: string | undefined;
  let seen: string | undefined;
  let stopped = false;

  const look = async () => {
    const now = await fingerprint(path);
    if (stopped) return;
    reported ??= now;
    const still = now === seen;
    seen = now;
    if (still && now !== reported) {
      reported = now;
      onChange();
    }
    timer = setTimeout(look, intervalMs).unref();
  };

  let timer: NodeJS.Timeout | undefined;
  void look();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/** Changes with the content, the inode behind the links, and every write (ctime can not be set). */
async function fingerprint(path: string): Promise<string> {
  const stats = await promises.stat(path, { bigint: true }).catch((error: unknown) => error);
  if (stats instanceof Error) return (stats as NodeJS.ErrnoException).code ?? 'unreadable';
  const { dev, ino, size, mtimeNs, ctimeNs } = stats as BigIntStats;
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}
