/** A store in one file, shared by the processes of this machine. Its thread does the work, so that no disk delays a call. */
import { Worker } from 'node:worker_threads';
import { LogSetupError, LogUnavailableError } from '../../bus/log/log-errors.ts';
import type { BegunRun, JournalStore, StoreLimits, Written } from '../record/journal-store.ts';
import type { FromThread, OperationName, Operations, Request, ThreadData } from './requests.ts';
import { threadUrl } from './thread-url.ts';

/** @throws LogSetupError, whose message says what to do */
export async function openFileStore(file: string, limits: StoreLimits): Promise<JournalStore> {
  const store = new FileStore({ file, limits });
  await store.opened;
  return store;
}

interface Waiting {
  readonly resolve: (output: never) => void;
  readonly reject: (error: Error) => void;
}

class FileStore implements JournalStore {
  isOver = false;
  onChange: (() => void) | undefined = undefined;
  problem = 'it is not open yet';
  readonly opened: Promise<void>;
  private readonly worker: Worker;
  private readonly ended: Promise<unknown>;
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  private isClosing = false;

  constructor(data: ThreadData) {
    const worker = new Worker(threadUrl(), { workerData: data, name: 'journal file', execArgv: [] });
    this.worker = worker;
    this.ended = new Promise((resolve) => worker.once('exit', resolve));
    this.opened = new Promise((resolve, reject) => {
      worker.on('message', (message: FromThread) => {
        if (message.name === 'opened') {
          this.problem = '';
          // A process that waits for nothing else may end.
          worker.unref();
          resolve();
        } else if (message.name === 'refused') reject(new LogSetupError(message.message));
        else this.receive(message);
      });
      worker.on('error', (error) =>
        reject(new LogSetupError(`the journal's thread ended: ${String(error)}`, error)),
      );
      worker.on('exit', () => this.end());
    });
  }

  get connected(): boolean {
    return this.problem === '';
  }

  begin(task: string): Promise<BegunRun> {
    return this.request('begin', { task });
  }

  async read(_task: string, reference: number): Promise<Buffer | undefined> {
    const payload = await this.request('read', { reference });
    return payload && Buffer.from(payload.buffer, payload.byteOffset, payload.length);
  }

  write(task: string, run: number, place: string, payload: Buffer): Promise<Written> {
    return this.request('write', { task, run, place, payload });
  }

  drop(task: string, run: number): Promise<void> {
    return this.request('drop', { task, run });
  }

  async close(): Promise<void> {
    this.isClosing = true;
    this.worker.ref();
    if (this.connected) await this.request('close', {}).catch(() => {});
    await this.ended;
  }

  private request<Name extends OperationName>(
    name: Name,
    input: Operations[Name]['in'],
  ): Promise<Operations[Name]['out']> {
    if (!this.connected) return Promise.reject(new LogUnavailableError(this.problem, false));
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      if (this.waiting.size === 0) this.worker.ref();
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, input } as Request);
    });
  }

  private receive(message: Extract<FromThread, { id: number }>): void {
    const waiting = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (this.waiting.size === 0 && !this.isClosing) this.worker.unref();
    if (message.name === 'done') waiting?.resolve(message.output as never);
    else waiting?.reject(new LogUnavailableError(message.message, true));
  }

  private end(): void {
    const wasConnected = this.connected;
    this.isOver = true;
    this.problem = "the journal's thread has ended";
    for (const { reject } of this.waiting.values()) reject(new LogUnavailableError(this.problem, true));
    this.waiting.clear();
    if (wasConnected) this.onChange?.();
  }
}
