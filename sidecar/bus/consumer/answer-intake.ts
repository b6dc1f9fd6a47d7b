/** Takes in the answer to a task: keeps that of a unary call, and writes the messages of a stream to the log. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { ChunkBatches } from './chunk-batches.ts';
import { MessageReader, type ReadFailure } from './message-reader.ts';

export type IntakeFailure = ReadFailure;

/** How often a unary answer is in memory at once: as it came, encoded with its head, and sealed on its way to the log. */
const ANSWER_COPIES = 3;
/** One that is not larger needs no room of its own. */
const FREE_BYTES = 65_536;

export interface IntakeOptions {
  readonly isUnary: boolean;
  /** The most that all messages may take. */
  readonly maxBytes: number;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  /** Stores a batch of messages. */
  write(count: number, payload: Buffer): Promise<void>;
  /** Resolves when there is room for so many bytes of a unary answer, or nobody wants it any more. */
  takeRoom(bytes: number): Promise<void>;
  /** After `isFull`: there is room again. */
  onRoom(): void;
  onFailed(error: unknown): void;
}

export class AnswerIntake {
  private readonly options: IntakeOptions;
  private readonly reader: MessageReader;
  /** Undefined for a unary call. */
  private readonly batches: ChunkBatches | undefined;
  private only: Buffer | undefined = undefined;
  private count = 0;
  /** For which a unary answer has room, or waits for it. */
  private roomBytes = FREE_BYTES;
  private isWaiting = false;

  constructor(options: IntakeOptions) {
    this.options = options;
    this.batches = options.isUnary ? undefined : new ChunkBatches(options);
    this.reader = new MessageReader(options.maxBytes, (message) => this.take(message));
  }

  readAs(encoding: string): void {
    this.reader.encoding = encoding;
  }

  read(chunk: Buffer): IntakeFailure | undefined {
    const failure = this.reader.read(chunk);
    if (failure === undefined && this.batches === undefined) this.makeRoom(this.reader.begunBytes);
    return failure;
  }

  /** Whether the app must wait, for the log or for memory. */
  get isFull(): boolean {
    return this.batches?.isFull ?? this.isWaiting;
  }

  private makeRoom(bytes: number): void {
    if (bytes <= this.roomBytes) return;
    const { takeRoom, onRoom, onFailed } = this.options;
    this.roomBytes = bytes;
    this.isWaiting = true;
    takeRoom(ANSWER_COPIES * bytes).then(() => {
      this.isWaiting = false;
      onRoom();
    }, onFailed);
  }

  /** Whether the last message that began is complete. */
  get isWhole(): boolean {
    return this.reader.atBoundary;
  }

  /** Resolves when all is stored. */
  finish(): Promise<void> {
    return this.batches === undefined ? Promise.resolve() : this.batches.finish();
  }

  /** Drops what is not stored. */
  stop(): void {
    this.batches?.stop();
  }

  /** The one message of a unary answer, without prefix. */
  get answer(): Buffer | undefined {
    return this.count === 1 ? this.only?.subarray(PREFIX_BYTES) : undefined;
  }

  private take(message: Buffer): void {
    this.count++;
    if (this.batches === undefined) this.only = message;
    else this.batches.add(message);
  }
}
