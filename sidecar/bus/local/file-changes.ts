/** Finds what has changed in a file, by other processes or by time, and tells those who wait for it. */
import type { FileWaits } from './file-waits.ts';
import type { FileWake } from './file-wake.ts';
import { nextDueMs, passDueTime } from './passing-time.ts';
import type { FromThread } from './requests.ts';
import type { TaskFile } from './task-file.ts';

export class FileChanges {
  private readonly file: TaskFile;
  private readonly waits: FileWaits;
  private readonly wake: FileWake;
  private readonly post: (message: FromThread) => void;
  private dataVersion = -1;
  private dueMs = 0;
  private clockOffsetMs = Number.NaN;

  constructor(file: TaskFile, waits: FileWaits, wake: FileWake, post: (message: FromThread) => void) {
    this.file = file;
    this.waits = waits;
    this.wake = wake;
    this.post = post;
  }

  /** Until time itself changes a task. */
  get dueInMs(): number {
    return this.dueMs - this.file.clock.nowMs(undefined);
  }

  /** Throws what SQLite throws. */
  look(): void {
    const version = this.file.dataVersion();
    const isDue = this.dueInMs <= 0;
    if (version === this.dataVersion && !isDue) return;
    const wantsTask = this.file.read(() => this.waits.hasTask());
    if (isDue || wantsTask) {
      this.file.write(() => {
        passDueTime(this.file);
        this.file.hasNewTask ||= wantsTask;
        this.waits.giveTasks();
      });
      this.waits.deliver();
      if (this.file.isChanged) this.wake.wake();
    }
    this.tell();
    this.dataVersion = version;
  }

  /** The file was changed here, or may have been changed by others. */
  tell(): void {
    this.file.read(() => {
      this.waits.tellChanges();
      this.dueMs = nextDueMs(this.file);
    });
    this.waits.deliver();
    if (this.clockOffsetMs === this.file.clock.offsetMs) return;
    this.clockOffsetMs = this.file.clock.offsetMs;
    this.post({ name: 'clock', offsetMs: this.clockOffsetMs });
  }
}
