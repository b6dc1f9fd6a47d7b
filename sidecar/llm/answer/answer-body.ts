/**
 * Passes the body of a provider's answer on to the caller, in one of three ways:
 *
 * - a stream of events, checked event by event (`stream-check.ts`);
 * - a plain JSON answer, held until it is whole, for nobody can use a part of it: what breaks off becomes an error in
 *   place of half an answer. A large one (embeddings, pictures) is passed on as it comes, and checked by its end;
 * - anything else, passed on as it comes.
 *
 * Which of them it is shows in its first bytes (`first-bytes.ts`).
 */

import type { ProviderFailureReason } from '../shared/provider-failure.ts';
import { errorInsteadOf } from './answer-error.ts';
import { CHUNK_COST_BYTES, type HeldBytes, heldAlone } from './held-answers.ts';
import { JsonDigest } from './json-digest.ts';
import { StreamCheck, type StreamCheckOptions } from './stream-check.ts';
import { type AnswerFacts, noFacts, readAnswer } from './usage.ts';

/** Plain answers, and events, up to this are held until they are whole. */
export const MAX_HELD_BYTES = 1_048_576;

export type Forward = (bytes: Buffer) => void;

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
  /** It has proved to be an answer, and no error. */
  readonly isGood: boolean;
  /** An error is all there is of it, and it is held: the caller gets it by {@link release}. */
  readonly isError: boolean;
  /** Its end is here, though its bytes may not have ended. */
  readonly complete: boolean;
  /** Passes bytes on as they come, from now on. */
  readonly flowing: boolean;
  /** The next bytes. `forward` gets what may go to the caller now. */
  push(chunk: Buffer, forward: Forward): ProviderFailureReason | undefined;
  /** Sends the held bytes to the caller, and those that follow as they come. */
  release(forward: Forward): void;
  /** The provider has ended it, cleanly as far as the connection shows. */
  end(forward: Forward): ProviderFailureReason | undefined;
  /** Its attempt is over: what it held is not held any more. */
  drop(): void;
}

/** Passed on as it comes. */
export class RawBody implements AnswerBody {
  readonly facts = noFacts();
  readonly estimatedOutputTokens = 0;
  readonly isEvents = false;
  readonly isError = false;
  readonly complete = false;
  signs = 0;
  private hasBytes = false;

  get begun(): boolean {
    return this.hasBytes;
  }

  get isGood(): boolean {
    return this.hasBytes;
  }

  get flowing(): boolean {
    return this.hasBytes;
  }

  push(chunk: Buffer, forward: Forward): undefined {
    this.signs++;
    this.hasBytes ||= chunk.length > 0;
    forward(chunk);
  }

  release(): void {}

  end(): undefined {}

  drop(): void {}
}

/** A plain JSON answer. */
export class JsonBody implements AnswerBody {
  readonly facts = noFacts();
  readonly estimatedOutputTokens = 0;
  readonly isEvents = false;
  readonly complete = false;
  isGood = false;
  isError = false;
  signs = 0;
  private readonly memory: HeldBytes;
  private readonly held: Buffer[] = [];
  private heldBytes = 0;
  /** Passed on from its beginning, and still held to be read. */
  private released = false;
  /** Too large to be held, and read in passing. */
  private digest: JsonDigest | undefined = undefined;
  /** The last byte that is no white space: some providers send that while they work. */
  private lastByte = 0;

  constructor(memory = heldAlone()) {
    this.memory = memory;
  }

  get begun(): boolean {
    return this.lastByte !== 0;
  }

  get flowing(): boolean {
    return this.digest !== undefined;
  }

  push(chunk: Buffer, forward: Forward): undefined {
    this.signs++;
    for (let at = chunk.length - 1; at >= 0; at--) {
      if (chunk[at]! <= 0x20) continue;
      this.lastByte = chunk[at]!;
      break;
    }
    if (this.digest !== undefined || this.released) forward(chunk);
    if (this.digest !== undefined) {
      this.digest.push(chunk);
      return;
    }
    this.held.push(chunk);
    const cost = chunk.length + CHUNK_COST_BYTES;
    if (this.heldBytes + cost <= MAX_HELD_BYTES && this.memory.add(cost)) {
      this.heldBytes += cost;
      return;
    }
    this.memory.remove(this.heldBytes);
    this.digest = new JsonDigest(this.memory);
    this.isGood = true;
    for (const held of this.held) {
      this.digest.push(held);
      if (!this.released) forward(held);
    }
    this.held.length = 0;
  }

  release(forward: Forward): void {
    if (this.released || this.digest !== undefined) return;
    this.released = true;
    for (const held of this.held) forward(held);
  }

  end(forward: Forward): ProviderFailureReason | undefined {
    if (this.digest !== undefined) return this.endLarge(this.digest);
    const whole = this.held.length === 1 ? this.held[0]! : Buffer.concat(this.held);
    const text = withoutMark(whole.toString('utf8'));
    const value = parsed(text);
    if (value === undefined && !isJsonLines(text)) return 'malformed_answer';
    readAnswer(value, this.facts);
    this.facts.error = errorInsteadOf(value);
    this.isError = this.facts.error !== undefined && !this.released;
    this.isGood = this.facts.error === undefined;
    if (!this.isError) this.release(forward);
    return undefined;
  }

  drop(): void {
    this.memory.clear();
  }

  private endLarge(digest: JsonDigest): ProviderFailureReason | undefined {
    const text = digest.text();
    if (text !== undefined) readAnswer(parsed(withoutMark(text)), this.facts);
    return this.lastByte === 0x7d || this.lastByte === 0x5d ? undefined : 'answer_cut';
  }
}

/** A stream of events; held until the first one with data, or until its caller can't wait any longer. */
export class EventsBody implements AnswerBody {
  readonly isEvents = true;
  private readonly check: StreamCheck;
  private readonly memory: HeldBytes;
  private held: Buffer[] | undefined = [];
  private heldBytes = 0;
  /** There was no room for the last of it. */
  private isCrowded = false;

  constructor(options: StreamCheckOptions) {
    this.memory = options.memory ?? heldAlone();
    this.check = new StreamCheck({ ...options, memory: this.memory });
  }

  get facts(): AnswerFacts {
    return this.check.facts;
  }

  get estimatedOutputTokens(): number {
    return this.check.estimatedOutputTokens;
  }

  get signs(): number {
    return this.check.signs;
  }

  get begun(): boolean {
    return this.check.events > 0;
  }

  get isGood(): boolean {
    return this.check.events > 0 && !this.check.beginsWithError;
  }

  get isError(): boolean {
    return this.check.beginsWithError && this.held !== undefined;
  }

  get complete(): boolean {
    return this.check.complete;
  }

  get flowing(): boolean {
    return this.check.events > 0;
  }

  push(chunk: Buffer, forward: Forward): ProviderFailureReason | undefined {
    if (this.held === undefined) return this.check.push(chunk, forward);
    const fault = this.check.push(chunk, (bytes) => this.hold(bytes));
    // A provider that comments for ever: the first-byte clock ends it, not our memory.
    if (this.heldBytes > MAX_HELD_BYTES || this.isCrowded || (fault === undefined && this.isGood))
      this.release(forward);
    return fault;
  }

  release(forward: Forward): void {
    const held = this.held ?? [];
    this.held = undefined;
    this.memory.remove(this.heldBytes);
    this.heldBytes = 0;
    for (const bytes of held) forward(bytes);
  }

  end(forward: Forward): ProviderFailureReason | undefined {
    if (this.held === undefined) return this.check.end(forward);
    const cut = this.check.end((bytes) => this.hold(bytes));
    if (cut === undefined && !this.isError) this.release(forward);
    return cut;
  }

  drop(): void {
    this.memory.clear();
  }

  private hold(bytes: Buffer): void {
    this.held?.push(bytes);
    const cost = bytes.length + CHUNK_COST_BYTES;
    if (this.memory.add(cost)) this.heldBytes += cost;
    else this.isCrowded = true;
  }
}

const BYTE_ORDER_MARK = '\uFEFF';

function withoutMark(text: string): string {
  return text.startsWith(BYTE_ORDER_MARK) ? text.slice(1) : text;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Several JSON values, one a line, though it is typed as one. */
function isJsonLines(text: string): boolean {
  const trimmed = text.trim();
  const first = trimmed.indexOf('\n');
  if (first < 0) return false;
  const last = trimmed.slice(trimmed.lastIndexOf('\n') + 1);
  return parsed(trimmed.slice(0, first)) !== undefined && parsed(last) !== undefined;
}
