/**
 * The body of a provider's answer on its way to the caller, in one of three ways:
 *
 * - a stream of events, checked event by event (`stream-check.ts`);
 * - a plain JSON answer, held until it is whole, for nobody can use a part of it: what breaks off becomes an error in
 *   place of half an answer. A large one (embeddings) is passed on as it comes, and checked by its end;
 * - anything else, passed on as it comes.
 */
import type { FailureReason } from './retry.ts';
import { StreamCheck, type StreamCheckOptions } from './stream-check.ts';
import { type AnswerFacts, noFacts, readAnswer } from './usage.ts';

/** Plain answers up to this are held until they are whole. */
export const MAX_HELD_BYTES = 1_048_576;

export interface AnswerBody {
  readonly facts: AnswerFacts;
  /** Output tokens by what has been seen; 0 when the usage tells, or nothing can. */
  readonly estimatedOutputTokens: number;
  /** Rises with every sign of life: a comment of an event stream is none. */
  readonly signs: number;
  /** It is a stream of events, into which an error event can be written. */
  readonly isEvents: boolean;
  /** Something of the answer itself has come, and was paid for. */
  readonly begun: boolean;
  /** What comes is passed on as it comes, from now on. */
  readonly flowing: boolean;
  /** The next bytes. `forward` gets what may go to the caller now. */
  push(chunk: Buffer, forward: (bytes: Buffer) => void): FailureReason | undefined;
  /** The caller can't wait any longer: what is held goes to it, and what comes as well. */
  release(forward: (bytes: Buffer) => void): void;
  /** The provider has ended it, cleanly as far as the connection shows. */
  end(forward: (bytes: Buffer) => void): FailureReason | undefined;
}

/** Passed on as it comes. */
export class RawBody implements AnswerBody {
  readonly facts = noFacts();
  readonly estimatedOutputTokens = 0;
  readonly isEvents = false;
  signs = 0;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get begun(): boolean {
    return this.#bytes > 0;
  }

  get flowing(): boolean {
    return this.#bytes > 0;
  }

  push(chunk: Buffer, forward: (bytes: Buffer) => void): FailureReason | undefined {
    this.signs++;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) return 'answer_too_large';
    forward(chunk);
    return undefined;
  }

  release(): void {}

  end(): undefined {
    return undefined;
  }
}

/** A plain JSON answer. */
export class JsonBody implements AnswerBody {
  readonly facts = noFacts();
  readonly estimatedOutputTokens = 0;
  readonly isEvents = false;
  signs = 0;
  readonly #maxBytes: number;
  readonly #held: Buffer[] = [];
  #bytes = 0;
  /** Passed on from its beginning, and still held to be read. */
  #released = false;
  /** Too large to be held. */
  #passing = false;
  /** The last byte that is no white space: some providers send that while they work. */
  #lastByte = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get begun(): boolean {
    return this.#lastByte !== 0;
  }

  get flowing(): boolean {
    return this.#passing;
  }

  push(chunk: Buffer, forward: (bytes: Buffer) => void): FailureReason | undefined {
    this.signs++;
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) return 'answer_too_large';
    for (let at = chunk.length - 1; at >= 0; at--) {
      if (chunk[at]! <= 0x20) continue;
      this.#lastByte = chunk[at]!;
      break;
    }
    if (this.#passing || this.#released) forward(chunk);
    if (this.#passing) return undefined;
    this.#held.push(chunk);
    if (this.#bytes <= MAX_HELD_BYTES) return undefined;
    this.#passing = true;
    if (!this.#released) for (const held of this.#held) forward(held);
    this.#held.length = 0;
    return undefined;
  }

  release(forward: (bytes: Buffer) => void): void {
    if (this.#released || this.#passing) return;
    this.#released = true;
    for (const held of this.#held) forward(held);
  }

  end(forward: (bytes: Buffer) => void): FailureReason | undefined {
    if (this.#passing) return this.#lastByte === 0x7d || this.#lastByte === 0x5d ? undefined : 'answer_cut';
    const whole = this.#held.length === 1 ? this.#held[0]! : Buffer.concat(this.#held);
    try {
      readAnswer(JSON.parse(whole.toString('utf8')), this.facts);
    } catch {
      return 'malformed_answer';
    }
    if (!this.#released) forward(whole);
    return undefined;
  }
}

/** A stream of events; held until the first one with data, or until its caller can't wait any longer. */
export class EventsBody implements AnswerBody {
  readonly isEvents = true;
  readonly #check: StreamCheck;
  readonly #maxBytes: number;
  #bytes = 0;
  #held: Buffer[] | undefined = [];
  #heldBytes = 0;

  constructor(options: StreamCheckOptions, maxBytes: number) {
    this.#check = new StreamCheck(options);
    this.#maxBytes = maxBytes;
  }

  get facts(): AnswerFacts {
    return this.#check.facts;
  }

  get estimatedOutputTokens(): number {
    return this.#check.estimatedOutputTokens;
  }

  get signs(): number {
    return this.#check.events;
  }

  get begun(): boolean {
    return this.#check.events > 0;
  }

  get flowing(): boolean {
    return this.#check.events > 0;
  }

  release(forward: (bytes: Buffer) => void): void {
    this.#release(forward);
  }

  push(chunk: Buffer, forward: (bytes: Buffer) => void): FailureReason | undefined {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) return 'answer_too_large';
    if (this.#held === undefined) return this.#check.push(chunk, forward);
    const fault = this.#check.push(chunk, (bytes) => this.#hold(bytes));
    if (fault === undefined && this.#check.events > 0) this.#release(forward);
    // A provider that comments for ever: the first-byte clock ends it, not our memory.
    else if (this.#heldBytes > MAX_HELD_BYTES) return fault ?? 'answer_too_large';
    return fault;
  }

  end(forward: (bytes: Buffer) => void): FailureReason | undefined {
    if (this.#held !== undefined && this.#check.events === 0) {
      const cut = this.#check.end((bytes) => this.#hold(bytes));
      if (cut === undefined) this.#release(forward);
      return cut;
    }
    return this.#check.end(forward);
  }

  #hold(bytes: Buffer): void {
    this.#held!.push(bytes);
    this.#heldBytes += bytes.length;
  }

  #release(forward: (bytes: Buffer) => void): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const bytes of held) forward(bytes);
  }
}
