/**
 * Wakes the other processes that have the file open: each writes a byte into a file beside it after a change, and each
 * watches that file. Where the system can't watch it, or loses an event, the regular looks for changes remain.
 */
import { chmodSync, closeSync, constants, type FSWatcher, openSync, watch, writeSync } from 'node:fs';

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
    this.descriptor = openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
    chmodSync(path, 0o600);
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
