/** Reads files that we do not control, such as configured ones: regular files only, within a size bound, without blocking. */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { TypedError } from '../errors/typed-error.ts';

/** A file can't be read: it is no regular file, it is too large, or the system reports an error. */
export class FileError extends TypedError {
  override readonly name = 'FileError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
  /** `NOT_REGULAR`, `TOO_LARGE`, or the system's code, such as `ENOENT`. */
  readonly code: string;

  constructor(path: string, code: string) {
    super(`${path} can not be read: ${code}`);
    this.code = code;
  }
}

/**
 * Returns the whole content; throws {@link FileError}. It follows symbolic links, because config maps and secrets are
 * mounted with them. Opening a FIFO blocks until it has a writer, and some devices block, too: so it opens the file without
 * blocking and then checks its kind.
 */
export function readRegularFile(path: string, maxBytes: number): Buffer {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw new FileError(path, 'NOT_REGULAR');
    if (stats.size > maxBytes) throw new FileError(path, 'TOO_LARGE');
    // Files of /proc have the size 0, and other files may grow during the read.
    const bytes = Buffer.alloc(Math.min(maxBytes, Math.max(stats.size, 65_536)) + 1);
    let length = 0;
    for (let read = -1; read !== 0 && length < bytes.length; length += read)
      read = readSync(descriptor, bytes, length, bytes.length - length, null);
    if (length === bytes.length) throw new FileError(path, 'TOO_LARGE');
    return bytes.subarray(0, length);
  } catch (error) {
    if (error instanceof FileError) throw error;
    throw new FileError(path, (error as NodeJS.ErrnoException).code ?? 'unknown error');
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}
