/**
 * The way from the main thread to the thread of the file: requests of one turn go in one message. When the thread ends by
 * itself, what it had not answered fails, and another one takes its place.
 */
import { Worker } from 'node:worker_threads';
import { FencedError, LogSetupError, LogUnavailableError, UnstorableError } from '../log/log-errors.ts';
import { DAMAGED } from './failures.ts';
import type {
  Failure,
  FromThread,
  Held,
  OperationName,
  Operations,
  Request,
  ThreadData,
  ToThread,
} from './requests.ts';
import { threadUrl } from './thread-url.ts';

/** The waits before a thread that ended is begun again. */
const FIRST_WAIT_MS = 100;
const LONGEST_WAIT_MS = 5_000;

interface Waiting {
  readonly name: OperationName;
  readonly held: Held | undefined;
  readonly resolve: (output: never) => void;
  readonly reject: (error: Error) => void;
}

export class ThreadLink {
  clockOffsetMs = 0;
  /** Names the file: another one may be in its place since. */
  identity = '';
  onConnected: ((connected: boolean) => void) | undefined;
  onFenced: ((task: number, fence: number, because: 'lost' | 'cancelled') => void) | undefined;
  private readonly data: ThreadData;
  private worker: Worker | undefined;
  /** Why the file can't be used; undefined while it can. */
  private trouble: string | undefined = 'it is not open yet';
  private readonly waiting = new Map<number, Waiting>();
  private outgoing: ToThread[] = [];
  private lastId = 0;
  private isClosed = false;
  private waitMs = FIRST_WAIT_MS;
  private timer: NodeJS.Timeout | undefined;

  constructor(data: ThreadData) {
    this.data = data;
  }

  get isConnected(): boolean {
    return this.trouble === undefined;
  }

  /** Rejects with LogSetupError when the file can't be used. */
  open(): Promise<void> {
    return new Promise((resolve, reject) => this.start(resolve, reject));
  }

  request<Name extends OperationName>(
    name: Name,
    input: Operations[Name]['in'],
    signal?: AbortSignal,
  ): Promise<Operations[Name]['out']> {
    if (this.trouble !== undefined) return Promise.reject(this.unavailable(false));
    const id = ++this.lastId;
    return new Promise<Operations[Name]['out']>((resolve, reject) => {
      const held = 'held' in input ? input.held : undefined;
      const stop = (): void => this.send({ name: 'stop', id });
      const end = (): void => signal?.removeEventListener('abort', stop);
      this.waiting.set(id, {
        name,
        held,
        resolve: (output) => {
          end();
          resolve(output);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      });
      signal?.addEventListener('abort', stop);
      this.send({ id, name, input } as Request);
    });
  }

  async close(): Promise<void> {
    const { worker } = this;
    clearTimeout(this.timer);
    const ended = worker && new Promise((resolve) => worker.once('exit', resolve));
    if (!this.isClosed) {
      this.isClosed = true;
      // After the requests that were made until now.
      this.send({ name: 'close', id: ++this.lastId });
    }
    await ended;
    this.disconnect('it is closed');
  }

  private start(onOpen: () => void, onRefused: (error: LogSetupError) => void): void {
    const worker = new Worker(threadUrl(), { workerData: this.data, name: 'task file', execArgv: [] });
    this.worker = worker;
    let hasOpened = false;
    worker.on('message', (message: FromThread) => {
      if (message.name === 'opened') {
        hasOpened = true;
        this.waitMs = FIRST_WAIT_MS;
        this.clockOffsetMs = message.clockOffsetMs;
        this.identity = message.identity;
        this.trouble = undefined;
        onOpen();
      } else if (message.name === 'refused') onRefused(new LogSetupError(message.message));
      else this.receive(message);
    });
    // What ends a thread is an error that nobody foresaw, or a lack of memory.
    let cause: unknown;
    worker.on('error', (error) => {
      cause = error;
      const text = `the thread of the task file could not start: ${String(error)}`;
      if (!hasOpened) onRefused(new LogSetupError(text, error));
    });
    worker.on('exit', () => {
      this.worker = undefined;
      const wasConnected = this.isConnected;
      const ended = `its thread has ended (${String(cause ?? 'without an error')}) and is begun again`;
      // A thread that leaves its file has said why.
      this.disconnect(cause === undefined ? (this.trouble ?? ended) : ended, cause);
      if (this.isClosed || !hasOpened) return;
      if (wasConnected) this.onConnected?.(false);
      this.startAgain();
    });
  }

  private receive(message: Exclude<FromThread, { name: 'opened' | 'refused' }>): void {
    if (message.name === 'clock') this.clockOffsetMs = message.offsetMs;
    else if (message.name === 'trouble') {
      const wasConnected = this.isConnected;
      this.trouble = message.trouble;
      if (wasConnected !== this.isConnected) this.onConnected?.(this.isConnected);
    } else if (message.name === 'fenced') this.onFenced?.(message.task, message.fence, message.because);
    else {
      const waiting = this.waiting.get(message.id);
      if (waiting === undefined) return;
      this.waiting.delete(message.id);
      if (message.name === 'done') waiting.resolve(message.output as never);
      else waiting.reject(errorOf(message.failure, waiting));
    }
  }

  private startAgain(): void {
    this.timer = setTimeout(() => {
      const failed = (): void => {
        if (!this.isClosed) this.startAgain();
      };
      this.start(() => this.onConnected?.(true), failed);
    }, this.waitMs);
    this.waitMs = Math.min(LONGEST_WAIT_MS, this.waitMs * 2);
  }

  private disconnect(trouble: string, cause?: unknown): void {
    this.trouble = trouble;
    this.outgoing = [];
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { reject } of waiting) reject(this.unavailable(true, cause));
  }

  private unavailable(isOutcomeUnknown: boolean, cause?: unknown): LogUnavailableError {
    return new LogUnavailableError(
      `the task file ${this.data.file} can't be used: ${this.trouble}`,
      isOutcomeUnknown,
      cause,
      this.trouble === DAMAGED,
    );
  }

  private send(message: ToThread): void {
    this.outgoing.push(message);
    if (this.outgoing.length === 1) queueMicrotask(() => this.flush());
  }

  private flush(): void {
    const messages = this.outgoing;
    this.outgoing = [];
    if (messages.length > 0) this.worker?.postMessage(messages);
  }
}

function errorOf(failure: Failure, { held }: Waiting): Error {
  if (failure.kind === 'fenced') return new FencedError(held?.key ?? '', held?.run ?? 0, failure.because);
  if (failure.kind === 'unstorable') return new UnstorableError(failure.message);
  return new LogUnavailableError(failure.message, failure.isOutcomeUnknown, undefined, failure.isFinal);
}
