/**
 * Passes an answer on, and keeps a copy for the journal. The agent sees the end of the answer when it is stored, so that
 * whatever the agent does next, the answer is not paid for twice:
 *
 *     copying ──the end──▶ ended ──whole and valid──▶ storing ──stored, or 50 ms are over──▶ passed
 *        │                   └── an error, no answer, or too large ────────────────────────────▲
 *        └── broken off, or its caller has left ──▶ dropped
 */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { type Arrows, step } from '../errors/illegal-step.ts';
import type { JournalEntry } from '../journal/run/journal-entry.ts';
import { HeldBytes } from './answer/held-answers.ts';
import { isRealAnswer } from './answer/real-answer.ts';
import type { Sink } from './caller/sink.ts';
import { type HttpHeaders, textOf } from './shared/headers.ts';
import type { Operation } from './shared/operation.ts';
import { ignore } from './shared/short-lived.ts';

/** How long the end of an answer waits for the store. */
const STORE_MS = 50;
const FIRST_BYTES = 4_096;
/** Statuses without the requested answer: No Content, Reset Content, Partial Content. */
const WITHOUT_ANSWER: ReadonlySet<number> = new Set([204, 205, 206]);
/** Fields that say what the answer is. What they say of limits, times and connections is over when it is replayed. */
const KEPT_FIELDS =
  /^(?:content-type|content-language|x-request-id|request-id|openai-(?!processing).*|anthropic-(?!ratelimit).*|outrigger-upstream)$/;

export type RecordingState = 'copying' | 'ended' | 'storing' | 'passed' | 'dropped';

export const RECORDING_ARROWS: Arrows<RecordingState> = {
  copying: ['ended', 'dropped'],
  ended: ['storing', 'passed', 'dropped'],
  storing: ['passed', 'dropped'],
  passed: [],
  dropped: [],
};

export interface Recording {
  readonly entry: JournalEntry;
  readonly operation: Operation;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly maxBytes: number;
}

export class RecordingSink extends Timer implements Sink {
  /** The caller has the whole answer, or gets no more of it. */
  onOver: () => void = ignore;
  private readonly sink: Sink;
  private readonly recording: Recording;
  private readonly memory = new HeldBytes();
  private state: RecordingState = 'copying';
  private status = 0;
  private fields: HttpHeaders = {};
  private copy: Buffer | undefined = undefined;
  private bytes = 0;
  /** With so many bytes the caller has the whole answer; Infinity where only its end says so. */
  private lastByte = Number.POSITIVE_INFINITY;
  /** The last bytes of the answer, which wait for the store. */
  private held: Buffer | undefined = undefined;

  constructor(sink: Sink, recording: Recording) {
    super();
    this.sink = sink;
    this.recording = recording;
  }

  get onDrain(): () => void {
    return this.sink.onDrain;
  }

  set onDrain(listener: () => void) {
    this.sink.onDrain = listener;
  }

  head(status: number, headers: HttpHeaders): void {
    if (isAnswer(status, headers)) {
      this.status = status;
      for (const name in headers) if (KEPT_FIELDS.test(name)) this.fields[name] = headers[name]!;
      const length = textOf(headers['content-length']);
      if (length !== undefined) this.lastByte = Number(length);
      this.grow(FIRST_BYTES);
    }
    this.sink.head(status, headers);
  }

  flushHead(): void {
    this.sink.flushHead();
  }

  write(bytes: Buffer, completes = false): boolean {
    this.keep(bytes);
    this.release();
    if (this.copy === undefined || !(completes || this.bytes >= this.lastByte)) return this.sink.write(bytes);
    this.held = bytes;
    this.wait();
    return true;
  }

  end(): void {
    this.become('ended');
  }

  breakOff(last: Buffer | undefined): void {
    this.drop();
    this.sink.breakOff(last);
  }

  /**
   * The request is over.
   *
   * @param isGood its answer is whole, and no error
   */
  settle(isGood: boolean): void {
    const { entry, operation } = this.recording;
    if (!isGood) entry.notDelivered();
    if (this.state === 'copying') this.drop();
    if (this.state !== 'ended') return;
    const { copy, bytes, status, fields } = this;
    const body = copy?.subarray(0, bytes);
    if (!isGood || body === undefined || !isRealAnswer(operation, body)) {
      this.pass();
      return;
    }
    this.become('storing');
    this.wait();
    void entry.keep({ status, fields, body }).then(() => this.pass());
  }

  /** The caller has left: the answer is stored nevertheless, for its next try. */
  leave(): void {
    if (this.state === 'passed' || this.state === 'dropped') return;
    this.recording.entry.notDelivered();
    this.drop();
  }

  override onTimeout(): void {
    if (this.state === 'copying') this.release();
    if (this.state !== 'storing') return;
    this.recording.entry.late();
    this.pass();
  }

  private wait(): void {
    const { wheel, clock } = this.recording;
    wheel.arm(this, clock() + STORE_MS);
  }

  private release(): void {
    const { held } = this;
    this.held = undefined;
    if (held !== undefined) this.sink.write(held);
  }

  private pass(): void {
    if (this.state !== 'ended' && this.state !== 'storing') return;
    this.release();
    this.become('passed');
    this.sink.end();
    this.finish();
  }

  private drop(): void {
    if (this.state === 'passed' || this.state === 'dropped') return;
    this.release();
    this.become('dropped');
    this.finish();
  }

  private finish(): void {
    this.recording.wheel.cancel(this);
    this.forget();
    this.onOver();
  }

  private become(state: RecordingState): void {
    this.state = step(RECORDING_ARROWS, this.state, state);
  }

  // --- The copy --------------------------------------------------------------------------------------------

  private keep(bytes: Buffer): void {
    if (this.copy === undefined) return;
    const length = this.bytes + bytes.length;
    if (length > this.copy.length && !this.grow(length)) return;
    bytes.copy(this.copy, this.bytes);
    this.bytes = length;
  }

  /** Returns false, and copies no more, where the answer is too large or all copies together are. */
  private grow(length: number): boolean {
    const { maxBytes } = this.recording;
    const before = this.copy?.length ?? 0;
    const size = Math.min(maxBytes, Math.max(length, before * 2));
    if (length > maxBytes || !this.memory.add(size - before)) {
      this.forget();
      return false;
    }
    const copy = Buffer.allocUnsafeSlow(size);
    this.copy?.copy(copy, 0, 0, this.bytes);
    this.copy = copy;
    return true;
  }

  private forget(): void {
    this.copy = undefined;
    this.memory.clear();
  }
}

function isAnswer(status: number, headers: HttpHeaders): boolean {
  if (status < 200 || status >= 300 || WITHOUT_ANSWER.has(status)) return false;
  const encoding = textOf(headers['content-encoding'])?.toLowerCase() ?? 'identity';
  return encoding === 'identity';
}
