/**
 * The thread of a task file. It collects the requests of one turn into one transaction, answers them when that is on the
 * disk, and looks for what other processes have changed.
 *
 *     requests ──▶ one transaction ──▶ answers
 *                        │
 *                        ▼
 *     tasks changed, by us or others ──▶ waiting takes, watchers, lost leases
 */

import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { troubleOf } from './failures.ts';
import { FileChanges } from './file-changes.ts';
import { FileWaits } from './file-waits.ts';
import { FileWake, wakePath } from './file-wake.ts';
import { buffersOf } from './message-bytes.ts';
import { RequestQueue } from './request-queue.ts';
import type { FromThread, ToThread } from './requests.ts';
import type { TaskFile } from './task-file.ts';
import { Transactions } from './transactions.ts';

/** Between two looks for changes of other processes: while somebody waits for one, the same where wakes come, and else. */
const LOOK_MS = 20;
const LOOK_WHEN_WOKEN_MS = 100;
const IDLE_LOOK_MS = 250;
const UPKEEP_MS = 1_000;
/** Between two transactions while other processes make some, too. */
const SHARED_BREAK_MS = 1;

export class FileThread {
  private readonly file: TaskFile;
  private readonly port: MessagePort;
  private readonly waits: FileWaits;
  private readonly wake: FileWake;
  private readonly changes: FileChanges;
  private readonly transactions: Transactions;
  private readonly queue = new RequestQueue();
  private isScheduled = false;
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;
  private lookedAtMs = 0;
  private keptUpAtMs = 0;
  /** Why the file can't be used; undefined while it can. */
  private trouble: string | undefined;

  constructor(file: TaskFile, port: MessagePort) {
    this.file = file;
    this.port = port;
    this.waits = new FileWaits(file, (message) => this.post(message));
    this.wake = new FileWake(wakePath(file.path), () => {
      this.lookedAtMs = 0;
      this.schedule();
    });
    const { waits, wake } = this;
    const post = (message: FromThread): void => this.post(message);
    const changes = new FileChanges(file, waits, wake, post);
    this.changes = changes;
    const onTrouble = (trouble: string | undefined): void => this.setTrouble(trouble);
    this.transactions = new Transactions({ file, waits, wake, changes, post, onTrouble });
    port.on('message', (messages: ToThread[]) => {
      this.receive(messages);
      this.schedule();
    });
  }

  /** Throws what SQLite throws, and is closed then. */
  start(): void {
    try {
      this.changes.look();
    } catch (error) {
      this.end();
      throw error;
    }
    // Shows whether such wakes arrive here.
    this.wake.wake();
    const { clock, identity } = this.file;
    this.post({ name: 'opened', clockOffsetMs: clock.offsetMs, identity });
    this.setTimer();
  }

  private receive(messages: readonly ToThread[]): void {
    for (const message of messages) {
      if (message.name === 'stop') this.stop(message.id);
      else if (message.name === 'close') this.close(message.id);
      else this.queue.add(message);
    }
  }

  private stop(id: number): void {
    const isQueued = this.queue.remove(id);
    if (this.waits.stop(id) || isQueued) this.answer(id, undefined);
  }

  private schedule(): void {
    if (this.isScheduled || this.isClosed) return;
    this.isScheduled = true;
    const turn = (): void => {
      this.isScheduled = false;
      this.turn();
    };
    // Who begins again at once leaves the others no moment for the lock.
    const isSoon = performance.now() - this.transactions.wroteAtMs < SHARED_BREAK_MS;
    if (isSoon && this.file.isShared) setTimeout(turn, SHARED_BREAK_MS);
    else setImmediate(turn);
  }

  /** One transaction for what has come until now. */
  private turn(): void {
    for (
      let more = receiveMessageOnPort(this.port);
      more !== undefined;
      more = receiveMessageOnPort(this.port)
    )
      this.receive(more.message as ToThread[]);
    if (this.isClosed) return;
    const requests = this.queue.takeNext();
    if (requests.length > 0) this.transactions.run(requests);
    if (performance.now() >= this.nextLookMs) this.look();
    if (!this.queue.isEmpty) this.schedule();
    this.setTimer();
  }

  private get nextLookMs(): number {
    if (this.waits.isEmpty) return this.lookedAtMs + IDLE_LOOK_MS;
    return this.lookedAtMs + (this.wake.works ? LOOK_WHEN_WOKEN_MS : LOOK_MS);
  }

  private look(): void {
    this.lookedAtMs = performance.now();
    try {
      // Who can read may still not be able to write.
      if (this.trouble !== undefined) this.file.write(() => {});
      this.changes.look();
      if (this.lookedAtMs - this.keptUpAtMs > UPKEEP_MS) {
        if (this.file.isMoved) {
          this.leave();
          return;
        }
        this.keptUpAtMs = this.lookedAtMs;
        this.file.keepUp();
        this.file.read(() => this.waits.tellAll());
        this.waits.deliver();
      }
      this.setTrouble(undefined);
    } catch (error) {
      this.waits.undo();
      this.setTrouble(troubleOf(error));
    }
  }

  private setTimer(): void {
    clearTimeout(this.timer);
    if (this.isClosed) return;
    const lookInMs = this.nextLookMs - performance.now();
    const dueInMs = this.trouble === undefined ? this.changes.dueInMs : lookInMs;
    this.timer = setTimeout(
      () => {
        this.lookedAtMs = 0;
        this.turn();
      },
      Math.max(1, Math.min(lookInMs, dueInMs)),
    );
  }

  private setTrouble(trouble: string | undefined): void {
    if (this.trouble === trouble) return;
    this.trouble = trouble;
    this.post({ name: 'trouble', trouble });
  }

  private close(id: number): void {
    while (!this.queue.isEmpty) this.transactions.run(this.queue.takeNext());
    for (const waiting of this.waits.stopAll()) this.answer(waiting, undefined);
    this.end();
    this.answer(id, undefined);
    this.port.close();
  }

  private end(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.wake.close();
    this.file.close();
  }

  /** The file was moved away: another thread begins with the one that is in its place, or makes it. */
  private leave(): void {
    this.setTrouble('it was moved or removed; a new one is made within a second');
    this.end();
    this.port.close();
  }

  private answer(id: number, output: unknown): void {
    this.post({ name: 'done', id, output });
  }

  private post(message: FromThread): void {
    this.port.postMessage(message, buffersOf(message));
  }
}
