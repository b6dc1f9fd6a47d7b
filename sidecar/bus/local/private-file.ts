/** Makes a file of SQLite and its folder for this user alone, or checks the one that is there. */
import { chmodSync, closeSync, lstatSync, mkdirSync, openSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { LogSetupError } from '../log/log-errors.ts';
import { networkFileSystem } from './network-file-system.ts';

/** SQLite keeps these beside a file. */
const SUFFIXES = ['', '-wal', '-shm'] as const;

/**
 * Nothing that isn't a regular file is touched: with another mode a folder or a device is lost for others.
 *
 * @param setting the one that names the file, for messages
 * @param instead what serves where processes of several machines share it
 * @throws LogSetupError, which says what to do, or the system's error
 */
export function makePrivateFile(path: string, setting: string, instead: string): void {
  const before = look(path, setting);
  const folder = dirname(path);
  if (before === undefined) mkdirSync(folder, { recursive: true, mode: 0o700 });
  const network = networkFileSystem(folder);
  if (network !== undefined)
    throw new LogSetupError(
      `${setting}: ${path} is on a network file system (${network}), where processes can't share a file safely: use a folder of a disk of this machine, or ${instead}`,
    );
  if (before === undefined) {
    try {
      closeSync(openSync(path, 'wx', 0o600));
    } catch (error) {
      // Another process has just made it. Never opened here when it exists: to close it would end the locks that this process
      // has on it.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  const found = SUFFIXES.map((suffix) => ({ name: path + suffix, stats: look(path + suffix, setting) }));
  for (const { name, stats } of found) if (stats !== undefined) keepFromOthers(name, stats, setting);
}

/** Undefined where there is nothing. */
function look(path: string, setting: string): Stats | undefined {
  // A trailing slash would make a file look like an error of its folder.
  if (path.endsWith('/')) throw new LogSetupError(isFolder(path, setting));
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats?.isFile()) return stats;
  if (stats?.isDirectory()) throw new LogSetupError(isFolder(path, setting));
  if (stats !== undefined)
    throw new LogSetupError(
      `${setting}: ${path} is not a regular file (${typeOf(stats)}): name a file on a disk of this machine`,
    );
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
  throw new LogSetupError(
    `${setting}: ${path} is a link to a file that doesn't exist: remove the link, or name the file itself`,
  );
}

const isFolder = (path: string, setting: string): string =>
  `${setting}: ${path} is a folder: name a file in it, ${path.replace(/\/+$/, '')}/NAME.db`;

function typeOf(stats: Stats): string {
  if (stats.isCharacterDevice() || stats.isBlockDevice()) return 'a device';
  if (stats.isFIFO()) return 'a pipe';
  return stats.isSocket() ? 'a socket' : 'something else';
}

function keepFromOthers(path: string, { mode }: Stats, setting: string): void {
  if ((mode & 0o077) === 0) return;
  try {
    chmodSync(path, 0o600);
  } catch (error) {
    // SQLite removes what is beside its file.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new LogSetupError(
      `${setting}: ${path} can be read by other users and is not this user's: give it to this user with mode 0600`,
      error,
    );
  }
}
