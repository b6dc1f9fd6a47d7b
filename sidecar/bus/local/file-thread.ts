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
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import { answerToFailure, failureOf, isBusy, troubleOf } from './failures.ts';
import { FileWaits } from './file-waits.ts';
import { FileWake, wakePath } from './file-wake.ts';
import { buffersOf, sizeOf } from './message-bytes.ts';
import { heldUntil, isReading, perform } from './operations.ts';
import { nextDueMs, passDueTime } from './passing-time.ts';
import type { FromThread, Held, Request, ToThread } from './requests.ts';
import type { TaskFile } from './task-file.ts';

/** Between two looks for changes of other processes: while somebody waits for one, the same where wakes come, and else. */
const LOOK_MS = 20;
const LOOK_WHEN_WOKEN_MS = 100;
const IDLE_LOOK_MS = 250;
const UPKEEP_MS = 1_000;
/** Between two transactions while other processes make some, too. */
const SHARED_BREAK_MS = 1;
/** What one transaction takes at most: others wait for it. */
const REQUESTS_AT_ONCE = 256;
const BYTES_AT_ONCE = 8 << 20;

export class FileThread {
  private readonly file: TaskFile;
  private readonly port: MessagePort;
  private readonly waits: FileWaits;
  private readonly wake: FileWake;
  private queue: Request[] = [];
  private isScheduled = false;
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;
  private lookedAtMs = 0;
  private wroteAtMs = 0;
  private keptUpAtMs = 0;
  private dataVersion = -1;
  private dueMs = 0;
  private clockOffsetMs = Number.NaN;
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
    port.on('message', (messages: ToThread[]) => {
      this.receive(messages);
      this.schedule();
    });
  }

  /** Throws what SQLite throws, and is closed then. */
  start(): void {
    try {
      this.lookForChanges();
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
      else this.queue.push(message);
    }
  }

  private stop(id: number): void {
    this.queue = this.queue.filter((request) => request.id !== id || this.answer(id, undefined));
    if (this.waits.stop(id)) this.answer(id, undefined);
  }

  private schedule(): void {
    if (this.isScheduled || this.isClosed) return;
    this.isScheduled = true;
    const turn = (): void => {
      this.isScheduled = false;
      this.turn();
    };
    // Who begins again at once leaves the others no moment for the lock.
    const isSoon = performance.now() - this.wroteAtMs < SHARED_BREAK_MS;
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
    const requests = this.nextRequests();
    if (requests.length > 0) this.transact(requests);
    if (performance.now() >= this.nextLookMs) this.look();
    if (this.queue.length > 0) this.schedule();
    this.setTimer();
  }

  private nextRequests(): Request[] {
    let bytes = 0;
    let count = 0;
    while (count < this.queue.length && count < REQUESTS_AT_ONCE && bytes < BYTES_AT_ONCE)
      bytes += sizeOf(this.queue[count++]!);
    return this.queue.splice(0, count);
  }

  private transact(requests: readonly Request[]): void {
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
    this.setTrouble(undefined);
    for (const held of ended) if (held !== undefined) this.waits.letGo(held);
    for (const answer of answers) this.post(answer);
    this.waits.deliver();
    if (isRead) return;
    this.wroteAtMs = performance.now();
    if (this.file.isChanged) this.wake.wake();
    this.tellChanges();
  }

  /** Nothing of a transaction that failed is stored. One request may be the reason: then the others go on without it. */
  private fail(requests: readonly Request[], error: unknown): void {
    for (const { id } of requests) this.waits.stop(id);
    if (requests.length > 1 && !isBusy(error)) {
      for (const request of requests) this.transact([request]);
      return;
    }
    for (const request of requests) this.post(answerToFailure(request, error, this.file.path));
    this.setTrouble(troubleOf(error));
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

  private get nextLookMs(): number {
    if (this.waits.isEmpty) return this.lookedAtMs + IDLE_LOOK_MS;
    return this.lookedAtMs + (this.wake.works ? LOOK_WHEN_WOKEN_MS : LOOK_MS);
  }

  private look(): void {
    this.lookedAtMs = performance.now();
    try {
      // Who can read may still not be able to write.
      if (this.trouble !== undefined) this.file.write(() => {});
      this.lookForChanges();
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

  private lookForChanges(): void {
    const version = this.file.dataVersion();
    const isDue = this.dueMs <= this.file.clock.nowMs(undefined);
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
    this.tellChanges();
    this.dataVersion = version;
  }

  private tellChanges(): void {
    this.file.read(() => {
      this.waits.tellChanges();
      this.dueMs = nextDueMs(this.file);
    });
    this.waits.deliver();
    if (this.clockOffsetMs === this.file.clock.offsetMs) return;
    this.clockOffsetMs = this.file.clock.offsetMs;
    this.post({ name: 'clock', offsetMs: this.clockOffsetMs });
  }

  private setTimer(): void {
    clearTimeout(this.timer);
    if (this.isClosed) return;
    const lookInMs = this.nextLookMs - performance.now();
    const dueInMs = this.trouble === undefined ? this.dueMs - this.file.clock.nowMs(undefined) : lookInMs;
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
    while (this.queue.length > 0) this.transact(this.nextRequests());
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

  private answer(id: number, output: unknown): false {
    this.post({ name: 'done', id, output });
    return false;
  }

  private post(message: FromThread): void {
    this.port.postMessage(message, buffersOf(message));
  }
}
