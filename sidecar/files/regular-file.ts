/** Reads files that somebody else names: regular ones only, within bounds, and without waiting for anybody. */

import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { TypedError } from '../errors/typed-error.ts';

/** A file can't be read: it is another kind of file, too large, or what the system says. */
export class FileError extends TypedError {
  override readonly name = 'FileError';
  override readonly source = 'ours';
  override readonly isSafeToRetry = true;
  /** `NOT_REGULAR`, `TOO_LARGE`, or the system's own, such as `ENOENT`. */
  readonly code: string;

  constructor(path: string, code: string) {
    super(`${path} can not be read: ${code}`);
    this.code = code;
  }
}

/**
 * The whole content. Symbolic links are followed: that is how config maps and secrets are mounted. To open a FIFO waits
 * for its writer, and some devices wait for their line, so nothing is waited for, and only then is the kind looked at.
 * Throws {@link FileError}.
 */
export function readRegularFile(path: string, maxBytes: number): Buffer {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const stats = fstatSync(descriptor);
    if (!stats.isFile()) throw new FileError(path, 'NOT_REGULAR');
    if (stats.size > maxBytes) throw new FileError(path, 'TOO_LARGE');
    // Files of /proc have the size 0, and others may grow while they are read.
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
