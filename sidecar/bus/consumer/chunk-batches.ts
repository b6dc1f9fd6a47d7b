/** Collects the messages of a run, and writes them to the log in batches. */
import { Timer, type TimerWheel } from '../../clock/timer-wheel.ts';

/** A batch is written this long after its first message, or when it has this many bytes. */
const BATCH_MS = 20;
const BATCH_BYTES = 16_384;
/** While more bytes wait for the log, the app must not send. */
const MAX_WAITING_BYTES = 65_536;

export interface BatchOptions {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** Stores a batch. A failure ends all: the run no longer counts. */
  write(count: number, payload: Buffer): Promise<void>;
  /** There is room again. */
  onRoom(): void;
  /** A batch could not be stored; it is the last one. */
  onFailed(error: unknown): void;
}

/** One write is on its way at a time, so that batches are stored in the order of their messages. */
export class ChunkBatches extends Timer {
  private readonly options: BatchOptions;
  private messages: Buffer[] = [];
  private bytes = 0;
  private isWriting = false;
  /** What waits is due, although it fills no batch. */
  private isDue = false;
  private failed = false;
  private whenWritten: (() => void) | undefined = undefined;

  constructor(options: BatchOptions) {
    super();
    this.options = options;
  }

  /** Whether the app must wait. */
  get isFull(): boolean {
    return this.bytes >= MAX_WAITING_BYTES;
  }

  add(message: Buffer): void {
    if (this.failed) return;
    const { wheel, clock } = this.options;
    if (this.messages.length === 0) wheel.arm(this, clock() + BATCH_MS);
    this.messages.push(message);
    this.bytes += message.length;
    if (this.bytes >= BATCH_BYTES) this.write();
  }

  override onTimeout(): void {
    this.isDue = true;
    this.write();
  }

  /** Writes what waits, and resolves when all is stored, or when a batch has failed. */
  async finish(): Promise<void> {
    this.isDue = true;
    this.write();
    if (this.isWriting)
      await new Promise<void>((resolve) => {
        this.whenWritten = resolve;
      });
  }

  /** Drops what waits. */
  stop(): void {
    this.failed = true;
    this.options.wheel.cancel(this);
    this.messages = [];
    this.bytes = 0;
  }

  private write(): void {
    if (this.isWriting || this.messages.length === 0) return;
    if (!this.isDue && this.bytes < BATCH_BYTES) return;
    const batch = this.nextBatch();
    this.isWriting = true;
    this.options.write(batch.length, Buffer.concat(batch)).then(
      () => this.onWritten(),
      (error: unknown) => {
        this.stop();
        this.options.onFailed(error);
        this.onWritten();
      },
    );
  }

  private nextBatch(): Buffer[] {
    const { messages } = this;
    let bytes = 0;
    let count = 0;
    while (count < messages.length && bytes < BATCH_BYTES) bytes += messages[count++]!.length;
    const batch = messages.splice(0, count);
    this.bytes -= bytes;
    if (messages.length === 0) {
      this.isDue = false;
      this.options.wheel.cancel(this);
    }
    return batch;
  }

  private onWritten(): void {
    this.isWriting = false;
    this.write();
    if (!this.isFull) this.options.onRoom();
    if (this.isWriting) return;
    this.whenWritten?.();
    this.whenWritten = undefined;
  }
}
