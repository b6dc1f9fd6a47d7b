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
import { TypedError } from '../../errors/typed-error.ts';
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import { FileWaits } from './file-waits.ts';
import { heldUntil, isReading, perform } from './operations.ts';
import { forgetConsumers, nextDueMs, passDueTime } from './passing-time.ts';
import type { Failure, FromThread, Held, Request, ToThread } from './requests.ts';
import type { TaskFile } from './task-file.ts';

/** Between two looks for changes of other processes: while somebody waits for one, and else. */
const LOOK_MS = 20;
const IDLE_LOOK_MS = 250;
/** What one transaction takes at most: others wait for it. */
const REQUESTS_AT_ONCE = 256;
const BYTES_AT_ONCE = 8 << 20;

export class FileThread {
  private readonly file: TaskFile;
  private readonly port: MessagePort;
  private readonly waits: FileWaits;
  private queue: Request[] = [];
  private isScheduled = false;
  private isClosed = false;
  private timer: NodeJS.Timeout | undefined;
  private dataVersion = -1;
  private dueMs = 0;
  private clockOffsetMs = Number.NaN;

  constructor(file: TaskFile, port: MessagePort) {
    this.file = file;
    this.port = port;
    this.waits = new FileWaits(file, (message) => this.post(message));
    port.on('message', (messages: ToThread[]) => {
      this.receive(messages);
      this.schedule();
    });
  }

  start(): void {
    this.lookForChanges();
    this.post({ name: 'opened', clockOffsetMs: this.file.clock.offsetMs });
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
    setImmediate(() => {
      this.isScheduled = false;
      this.turn();
    });
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
    try {
      const body = (): void => {
        for (const request of requests) {
          const answer = this.perform(request);
          if (answer === undefined) continue;
          answers.push(answer);
          if (answer.name === 'done') ended.push(heldUntil(request));
        }
        if (!isRead) this.waits.giveTasks();
      };
      if (isRead) this.file.read(body);
      else this.file.write(body);
    } catch (error) {
      this.waits.undo();
      const failure = failureOf(error);
      for (const { id } of requests) {
        this.waits.stop(id);
        this.post({ name: 'failed', id, failure });
      }
      return;
    }
    for (const held of ended) if (held !== undefined) this.waits.letGo(held);
    for (const answer of answers) this.post(answer);
    this.waits.deliver();
    if (!isRead) this.tellChanges();
  }

  /** Undefined while the request waits. */
  private perform(request: Request): FromThread | undefined {
    const { id } = request;
    try {
      const output = perform(this.file, request, this.waits);
      return output === 'waits' ? undefined : { name: 'done', id, output };
    } catch (error) {
      if (error instanceof TypedError) return { name: 'failed', id, failure: failureOf(error) };
      throw error;
    }
  }

  private look(): void {
    if (this.isClosed) return;
    try {
      this.lookForChanges();
    } catch {
      // The next request tells why; until then nobody has asked.
    }
    this.setTimer();
  }

  private lookForChanges(): void {
    const version = this.file.dataVersion();
    const isDue = this.dueMs <= this.file.clock.nowMs(undefined);
    if (version === this.dataVersion && !isDue) return;
    this.dataVersion = version;
    const wantsTask = this.file.read(() => this.waits.hasTask());
    if (isDue || wantsTask) {
      this.file.write(() => {
        passDueTime(this.file);
        forgetConsumers(this.file);
        this.file.hasNewTask ||= wantsTask;
        this.waits.giveTasks();
      });
      this.waits.deliver();
    }
    this.tellChanges();
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
    const dueInMs = this.dueMs - this.file.clock.nowMs(undefined);
    const lookMs = this.waits.isEmpty ? IDLE_LOOK_MS : LOOK_MS;
    this.timer = setTimeout(() => this.look(), Math.max(1, Math.min(lookMs, dueInMs)));
  }

  private close(id: number): void {
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const waiting of this.waits.stopAll()) this.answer(waiting, undefined);
    this.file.close();
    this.answer(id, undefined);
    this.port.close();
  }

  private answer(id: number, output: unknown): false {
    this.post({ name: 'done', id, output });
    return false;
  }

  private post(message: FromThread): void {
    this.port.postMessage(message);
  }
}

function sizeOf(request: Request): number {
  if (request.name === 'submit') return request.input.task.payload.length;
  return request.name === 'write' || request.name === 'settle' ? request.input.payload.length : 0;
}

const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;

/** Nothing of a transaction that failed is in the file; only where the disk fails while it is synchronised, nobody knows. */
export function failureOf(error: unknown): Failure {
  if (error instanceof FencedError) return { kind: 'fenced', because: error.because };
  if (error instanceof LogUnavailableError) return unavailable(error.message, error.isOutcomeUnknown);
  const { errcode = 0, message } = error as Error & { errcode?: number };
  const primary = errcode & 0xff;
  if (primary === SQLITE_BUSY)
    return unavailable('the task file is locked by another process: look for one that is stopped', false);
  if (primary === SQLITE_FULL)
    return unavailable('the disk of the task file is full: make room on it', false);
  return unavailable(`the task file can't be used (${message}): look at its disk`, true);
}

function unavailable(message: string, isOutcomeUnknown: boolean): Failure {
  return { kind: 'unavailable', message, isOutcomeUnknown };
}
