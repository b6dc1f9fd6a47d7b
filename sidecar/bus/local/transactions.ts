/** Makes one transaction of several requests to a file, and answers them when it is on the disk. */
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import { answerToFailure, failureOf, isBusy, troubleOf } from './failures.ts';
import type { FileChanges } from './file-changes.ts';
import type { FileWaits } from './file-waits.ts';
import type { FileWake } from './file-wake.ts';
import { heldUntil, isReading, perform } from './operations.ts';
import type { FromThread, Held, Request } from './requests.ts';
import type { TaskFile } from './task-file.ts';

interface TransactionsOptions {
  readonly file: TaskFile;
  readonly waits: FileWaits;
  readonly wake: FileWake;
  readonly changes: FileChanges;
  post(message: FromThread): void;
  /** Why the file can't be used; undefined when it can. */
  onTrouble(trouble: string | undefined): void;
}

export class Transactions {
  /** When the latest one that writes ended. */
  wroteAtMs = 0;
  private readonly file: TaskFile;
  private readonly waits: FileWaits;
  private readonly wake: FileWake;
  private readonly changes: FileChanges;
  private readonly post: (message: FromThread) => void;
  private readonly onTrouble: (trouble: string | undefined) => void;

  constructor({ file, waits, wake, changes, post, onTrouble }: TransactionsOptions) {
    this.file = file;
    this.waits = waits;
    this.wake = wake;
    this.changes = changes;
    this.post = post;
    this.onTrouble = onTrouble;
  }

  run(requests: readonly Request[]): void {
    const answers: FromThread[] = [];
    const ended: (Held | undefined)[] = [];
    const isRead = requests.every(({ name }) => isReading(name));
    const body = (): void => {
      for (const request of requests) {
        const answer = this.perform(request);
        if (answer === undefined) continue;
        answers.push(answer);
        if (answer.name === 'done') ended.push(heldUntil(request));
      }
      if (!isRead) this.waits.giveTasks();
    };
    try {
      if (isRead) this.file.read(body);
      else this.file.write(body);
    } catch (error) {
      this.waits.undo();
      this.fail(requests, error);
      return;
    }
    this.onTrouble(undefined);
    for (const held of ended) if (held !== undefined) this.waits.letGo(held);
    for (const answer of answers) this.post(answer);
    this.waits.deliver();
    if (isRead) return;
    this.wroteAtMs = performance.now();
    if (this.file.isChanged) this.wake.wake();
    this.changes.tell();
  }

  /** Nothing of a transaction that failed is stored. One request may be the reason: then the others go on without it. */
  private fail(requests: readonly Request[], error: unknown): void {
    for (const { id } of requests) this.waits.stop(id);
    if (requests.length > 1 && !isBusy(error)) {
      for (const request of requests) this.run([request]);
      return;
    }
    for (const request of requests) this.post(answerToFailure(request, error, this.file.path));
    this.onTrouble(troubleOf(error));
  }

  /** Undefined while the request waits. */
  private perform(request: Request): FromThread | undefined {
    const { id } = request;
    try {
      const output = perform(this.file, request, this.waits);
      return output === 'waits' ? undefined : { name: 'done', id, output };
    } catch (error) {
      if (error instanceof FencedError || error instanceof LogUnavailableError)
        return { name: 'failed', id, failure: failureOf(error, this.file.path) };
      throw error;
    }
  }
}
