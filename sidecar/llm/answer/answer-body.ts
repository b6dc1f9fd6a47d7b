/**
 * Passes the body of a provider's answer on to the caller, in one of three ways:
 *
 * - a stream of events, checked event by event (`stream-check.ts`);
 * - a plain JSON answer, held until it is whole, because no caller can use a part of it: an answer that breaks off becomes
 *   an error in place of half an answer. A large one (embeddings, pictures) passes as it comes, and its end is checked;
 * - any other answer passes as it comes.
 *
 * The first bytes show which of them it is (`first-bytes.ts`).
 */

import { isObject } from '../../node/json.ts';
import { type AnswerFacts, noFacts } from '../kinds/answer-facts.ts';
import type { ReadAnswer } from '../kinds/traits.ts';
import type { ProviderFailureReason } from '../shared/provider-failure.ts';
import { errorInsteadOf } from './answer-error.ts';
import { CHUNK_COST_BYTES, type HeldBytes, heldAlone } from './held-answers.ts';
import { JsonDigest } from './json-digest.ts';
import type { StoredIds } from './stored-ids.ts';
import { CHARACTERS_PER_TOKEN, StreamCheck, type StreamCheckOptions } from './stream-check.ts';

/** Plain answers and events up to this size are held until they are whole. */
export const MAX_HELD_BYTES = 1_048_576;

export type Forward = (bytes: Buffer) => void;

export interface AnswerBody {
  readonly facts: AnswerFacts;
  /** An estimate of the output tokens; 0 when the answer sends its usage, or gives no basis for one. */
  readonly estimatedOutputTokens: number;
  /** Counts signs of life: a comment of an event stream is none. */
  readonly signs: number;
  /** The answer is a stream of events, so an error event can end it. */
  readonly isEvents: boolean;
  /** A part of the answer itself has come, and cost tokens. */
  readonly begun: boolean;
  /** The answer has proved to be no error. */
  readonly isGood: boolean;
  /** The answer is nothing but an error, which is held until {@link release}. */
  readonly isError: boolean;
  /** The end of the answer is here, though more bytes may follow. */
  readonly complete: boolean;
  /** The body passes bytes on as they come, from now on. */
  readonly flowing: boolean;
  /** Takes the next bytes. `forward` receives what may go to the caller now. */
  push(chunk: Buffer, forward: Forward): ProviderFailureReason | undefined;
  /** Sends the held bytes to the caller, and later bytes as they come. */
  release(forward: Forward): void;
  /** The provider has ended the answer, cleanly as far as the connection shows. */
  end(forward: Forward): ProviderFailureReason | undefined;
  /** Frees what is held: the attempt is over. */
  drop(): void;
}

/** An answer that passes as it comes. */
export class RawBody implements AnswerBody {
  readonly facts = noFacts();
  readonly estimatedOutputTokens = 0;
  readonly isEvents = false;
  readonly isError = false;
  readonly complete = false;
  signs = 0;
  private hasBytes = false;
  private readonly stored: StoredIds | undefined;

  /** @param stored reads what the answer names of things that its upstream stores */
  constructor(stored?: StoredIds) {
    this.stored = stored;
  }

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
    this.stored?.push(chunk);
    forward(chunk);
  }

  release(): void {}

  end(): undefined {
    if (this.stored !== undefined) this.facts.storedIds = this.stored.take();
  }

  drop(): void {}
}

/** A plain JSON answer. */
export class JsonBody implements AnswerBody {
  readonly facts = noFacts();
  estimatedOutputTokens = 0;
  readonly isEvents = false;
  readonly complete = false;
  isGood = false;
  isError = false;
  signs = 0;
  private readonly read: ReadAnswer;
  private readonly memory: HeldBytes;
  private readonly held: Buffer[] = [];
  private heldBytes = 0;
  /** The caller receives the answer from its beginning; the body is still held, to be read at its end. */
  private released = false;
  /** Reads an answer in passing that is too large to be held. */
  private digest: JsonDigest | undefined = undefined;
  /** The last byte that is no white space: some providers send white space while they work. */
  private lastByte = 0;

  /** @param read reads the facts of the whole answer */
  constructor(read: ReadAnswer, memory = heldAlone()) {
    this.read = read;
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
    const said = isObject(value) ? this.read(value, this.facts) : undefined;
    // A provider that says 0 beside a text has counted nothing.
    this.estimatedOutputTokens = Math.ceil((said?.length ?? 0) / CHARACTERS_PER_TOKEN);
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
    const value = text === undefined ? undefined : parsed(withoutMark(text));
    if (isObject(value)) this.read(value, this.facts);
    return this.lastByte === 0x7d || this.lastByte === 0x5d ? undefined : 'answer_cut';
  }
}

/** A stream of events, held until the first event with data, or until its caller can't wait any longer. */
export class EventsBody implements AnswerBody {
  readonly isEvents = true;
  private readonly check: StreamCheck;
  private readonly memory: HeldBytes;
  private held: Buffer[] | undefined = [];
  private heldBytes = 0;
  /** The memory had no room for the last bytes. */
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
    // A provider may send comments for ever: the first-byte clock ends the attempt, not our memory.
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

/** Whether a text is several JSON values, one in each line, although its type says one value. */
function isJsonLines(text: string): boolean {
  const trimmed = text.trim();
  const first = trimmed.indexOf('\n');
  if (first < 0) return false;
  const last = trimmed.slice(trimmed.lastIndexOf('\n') + 1);
  return parsed(trimmed.slice(0, first)) !== undefined && parsed(last) !== undefined;
}
