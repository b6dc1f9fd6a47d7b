/**
 * Wakes the other processes that have the file open: each writes a byte into a file beside it after a change, and each
 * watches that file. Where the system can't watch it, or loses an event, the regular looks for changes remain.
 */
import {
  closeSync,
  constants,
  type FSWatcher,
  fchmodSync,
  fstatSync,
  openSync,
  watch,
  writeSync,
} from 'node:fs';
import { LogSetupError } from '../log/log-errors.ts';

const BYTE = Buffer.from('.');

/** The file beside a file of tasks. */
export const wakePath = (file: string): string => `${file}-wake`;

export class FileWake {
  /** Whether an event has come; then looks may be further apart. */
  works = false;
  private readonly descriptor: number;
  private watcher: FSWatcher | undefined;

  /** @param onWake called after a change of any process, this one too */
  constructor(path: string, onWake: () => void) {
    this.descriptor = openFile(path);
    try {
      this.watcher = watch(path, (event) => {
        // It was removed: who comes later makes another one.
        if (event === 'rename') this.unwatch();
        else this.works = true;
        onWake();
      });
      this.watcher.on('error', () => this.unwatch());
    } catch {
      // The system has no watches left.
    }
  }

  wake(): void {
    try {
      writeSync(this.descriptor, BYTE, 0, 1, 0);
    } catch {
      // The disk is full.
    }
  }

  close(): void {
    this.unwatch();
    closeSync(this.descriptor);
  }

  private unwatch(): void {
    this.works = false;
    this.watcher?.close();
    this.watcher = undefined;
  }
}

/** Follows no link, waits for no reader of a pipe, and changes the mode of a regular file alone. */
function openFile(path: string): number {
  const { O_WRONLY, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, O_WRONLY | O_CREAT | (O_NOFOLLOW ?? 0) | (O_NONBLOCK ?? 0), 0o600);
    if (!fstatSync(descriptor).isFile()) throw new Error('it is a device or a pipe');
    fchmodSync(descriptor, 0o600);
    return descriptor;
  } catch (error) {
    if (descriptor !== undefined) closeSync(descriptor);
    throw new LogSetupError(
      `bus.url: ${path} is not a regular file of this user (${error instanceof Error ? error.message : String(error)}): remove it; it is made anew and holds nothing`,
      error,
    );
  }
}
