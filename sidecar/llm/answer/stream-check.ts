/**
 * Follows a streamed answer: what the caller may receive, whether the stream is alive, and whether it has ended. Pure.
 *
 *     held ──first event with data──▶ flowing ──its end (stream-end.ts)──▶ complete
 *       └────────── end of the bytes ──────┴──▶ stream_cut
 *
 * It passes on whole events, byte for byte, so that an error event of ours never lands in the middle of another one;
 * events that are too large to be held pass in parts. Comments and other keep-alives pass too, but are no sign of life: a
 * provider that has lost its model goes on sending them.
 */

import { isObject } from '../../node/json.ts';
import { type AnswerFacts, noFacts } from '../kinds/answer-facts.ts';
import type { EventDialect } from '../kinds/traits.ts';
import { errorInEvent } from './answer-error.ts';
import { ArrayScanner } from './array-scanner.ts';
import { type EventFields, elementFields, fieldsOf, LargeElement, LargeEvent } from './event-fields.ts';
import { EventScanner, type EventScanning } from './event-scanner.ts';
import { type HeldBytes, heldAlone } from './held-answers.ts';
import { StreamEnd } from './stream-end.ts';
import type { EventSink } from './unfinished-event.ts';

export interface StreamCheckOptions {
  readonly dialect: EventDialect;
  /** The stream is one JSON array, and its elements are the events. */
  readonly isArray?: boolean;
  /** The request's `n`. */
  readonly choices: number;
  /** The longest event that is held until it is whole. */
  readonly maxHeldEventBytes: number;
  /** We have asked for the usage, and not the caller: its event is taken out. */
  readonly stripUsage: boolean;
  /** More events with text than this are more tokens than the request may have; Infinity without a budget. */
  readonly maxOutputEvents: number;
  /** Counts what is held; by default apart from all other answers. */
  readonly memory?: HeldBytes;
}

export type StreamFault = 'malformed_answer' | 'budget_exhausted';

/** Clients compare only the beginning, so white space may follow. */
const DONE = '[DONE]';
export const CHARACTERS_PER_TOKEN = 4;
/** Events, or their `type`, that only keep a connection alive. */
const KEEP_ALIVES: ReadonlySet<string> = new Set([
  'ping',
  'heartbeat',
  'keepalive',
  'keep-alive',
  'keep_alive',
]);

export class StreamCheck implements EventSink {
  readonly facts: AnswerFacts = noFacts();
  /** Events with data so far, keep-alives left out. */
  events = 0;
  /** Counts signs of life: an event with data, or a part of one. */
  signs = 0;
  /** The first event with data is an error: there is no answer. */
  beginsWithError = false;
  private outputEvents = 0;
  private outputCharacters = 0;
  private readonly options: StreamCheckOptions;
  private readonly streamEnd: StreamEnd;
  private readonly scanner: EventScanning;
  private readonly fieldsOf: typeof fieldsOf;
  private readonly memory: HeldBytes;
  private fault: StreamFault | undefined = undefined;
  private isFirst = true;
  private large: LargeEvent | LargeElement | undefined = undefined;
  /** Neighbouring events go on in one piece. */
  private run: Buffer | undefined = undefined;
  private runStart = 0;
  private runEnd = 0;
  private forward: (bytes: Buffer) => void = () => {};

  constructor(options: StreamCheckOptions) {
    this.options = options;
    this.streamEnd = new StreamEnd(options.dialect, options.choices);
    this.memory = options.memory ?? heldAlone();
    const { isArray = false, maxHeldEventBytes } = options;
    this.scanner = new (isArray ? ArrayScanner : EventScanner)(maxHeldEventBytes, this.memory);
    this.fieldsOf = isArray ? elementFields : fieldsOf;
  }

  /** The event that ends the stream has come. */
  get complete(): boolean {
    return this.streamEnd.isReached && this.scanner.isClosed;
  }

  /** Whether the bytes may end here without a loss. */
  private get mayEnd(): boolean {
    return this.streamEnd.mayEnd && this.scanner.isClosed;
  }

  /** An estimate from the texts of the events, for a stream without usage: at least one token for each event. */
  get estimatedOutputTokens(): number {
    return Math.max(this.outputEvents, Math.ceil(this.outputCharacters / CHARACTERS_PER_TOKEN));
  }

  /** Takes the next bytes; calls `forward` with what the caller may receive: nothing of a faulty event or after it. */
  push(chunk: Buffer, forward: (bytes: Buffer) => void): StreamFault | undefined {
    this.forward = forward;
    this.scanner.push(chunk, this);
    this.flush();
    return this.fault;
  }

  /** The bytes have ended. A last event without its blank line counts when it ends the stream. */
  end(forward: (bytes: Buffer) => void): 'stream_cut' | undefined {
    if (this.fault === undefined && this.scanner.isMidEvent) {
      const rest = this.scanner.takeUnfinished();
      if (this.large !== undefined) this.checkLarge(this.large);
      else if (!this.complete) this.check(this.fieldsOf(rest, 0, rest.length, this.isFirst));
      if (this.mayEnd && rest.length > 0) forward(rest);
    }
    return this.mayEnd ? undefined : 'stream_cut';
  }

  onEvent(buffer: Buffer, start: number, end: number): void {
    const fields = this.fieldsOf(buffer, start, end, this.isFirst);
    this.isFirst = false;
    if (this.fault === undefined && this.check(fields)) this.pass(buffer, start, end);
  }

  onPart(buffer: Buffer, start: number, end: number, isLast: boolean): void {
    if (this.fault !== undefined) return;
    if (this.large === undefined) {
      this.large =
        this.options.isArray === true
          ? new LargeElement(this.memory)
          : new LargeEvent(this.isFirst, this.memory);
      this.isFirst = false;
      this.events++;
    }
    this.signs++;
    this.large.push(buffer, start, end);
    this.pass(buffer, start, end);
    if (isLast) this.checkLarge(this.large);
  }

  private checkLarge(event: LargeEvent | LargeElement): void {
    this.large = undefined;
    const fields = event.fields();
    event.release();
    if (fields.isUnread) return;
    this.events--;
    this.check(fields);
  }

  private pass(buffer: Buffer, start: number, end: number): void {
    if (this.run === buffer && this.runEnd === start) {
      this.runEnd = end;
      return;
    }
    this.flush();
    this.run = buffer;
    this.runStart = start;
    this.runEnd = end;
  }

  private flush(): void {
    const run = this.run;
    this.run = undefined;
    if (run !== undefined) this.forward(run.subarray(this.runStart, this.runEnd));
  }

  /** Checks an event; returns whether the caller may receive it. */
  private check({ event, data }: EventFields): boolean {
    if (data === undefined || KEEP_ALIVES.has(event)) return true;
    const text = data.trim();
    if (text === '') return true;
    if (text.startsWith(DONE)) {
      this.streamEnd.reach();
      this.count();
      return true;
    }
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return this.checkUnread(event, text);
    }
    // Some providers send a name, a number or an empty object as a heartbeat.
    if (typeof value !== 'object' || value === null || (event === '' && isEmpty(value))) return true;
    const type = typeOf(value) ?? (event === '' ? undefined : event);
    if (type !== undefined && KEEP_ALIVES.has(type)) return true;
    const added = isObject(value) ? this.options.dialect.read(value, this.facts) : undefined;
    this.noteError(event === 'error' ? event : type, value);
    this.count();
    this.streamEnd.take(type, value);
    if (added !== undefined && added !== '' && !this.countText(added)) return false;
    return !(this.options.stripUsage && isUsageOnly(value));
  }

  /** Checks data that are no JSON. */
  private checkUnread(event: string, text: string): boolean {
    if (event === 'error') {
      this.noteError(event, undefined);
      this.count();
      return true;
    }
    const isJson = text.startsWith('{') || text.startsWith('[');
    // Chunks of choices have no event name: a named event is the provider's own.
    const isOwn = this.options.dialect.choices !== undefined && event !== '' && event !== 'message';
    if (!isJson || isOwn) return true;
    this.fault = 'malformed_answer';
    return false;
  }

  private noteError(type: string | undefined, value: unknown): void {
    const error = errorInEvent(type, value);
    if (error === undefined) return;
    this.facts.error ??= error;
    this.beginsWithError ||= this.events === 0;
    // No caller waits for what follows.
    this.streamEnd.reach();
  }

  private count(): void {
    this.events++;
    this.signs++;
  }

  private countText(text: string): boolean {
    this.outputCharacters += text.length;
    if (++this.outputEvents <= this.options.maxOutputEvents) return true;
    this.fault = 'budget_exhausted';
    return false;
  }
}

function isEmpty(value: object): boolean {
  for (const _ in value) return false;
  return true;
}

function typeOf(value: unknown): string | undefined {
  const type = (value as { type?: unknown }).type;
  return typeof type === 'string' ? type : undefined;
}

/** The extra event of `stream_options.include_usage`: usage and no choices. */
function isUsageOnly(value: unknown): boolean {
  const { choices, usage } = value as { choices?: unknown; usage?: unknown };
  return Array.isArray(choices) && choices.length === 0 && usage !== null && usage !== undefined;
}
