/**
 * Follows a streamed answer: what may be passed on, whether it is alive, and whether it has come to its end. Pure.
 *
 *     held ──first event with data──▶ flowing ──terminal marker──▶ complete
 *       └────────── end of the bytes ──────┴──▶ stream_cut
 *
 * Only whole events are passed on, byte for byte, so that an error event of ours never lands in the middle of another
 * one. Comments and other keep-alives are passed on too, but are no sign of life: a provider that has lost its model
 * goes on sending them.
 */
import { type EventFields, EventScanner, fieldsOf } from './event-scanner.ts';
import { type Operation, traitsOf } from './operations.ts';
import { type AnswerFacts, noFacts, readAnswer } from './usage.ts';

export interface StreamCheckOptions {
  readonly operation: Operation;
  readonly maxEventBytes: number;
  /** The usage was asked for by us, not by the caller: its event is taken out. */
  readonly stripUsage: boolean;
  /** More events with text than this are more tokens than were asked for; Infinity without a budget. */
  readonly maxOutputEvents: number;
}

export type StreamFault = 'malformed_answer' | 'answer_too_large' | 'budget_exhausted';

/** What ends a stream of the Responses API. */
const RESPONSE_ENDS: ReadonlySet<string> = new Set([
  'response.completed',
  'response.incomplete',
  'response.failed',
  'response.cancelled',
]);
const DONE = '[DONE]';
const CHARACTERS_PER_TOKEN = 4;

export class StreamCheck {
  readonly facts: AnswerFacts = noFacts();
  /** Events with data so far, keep-alives left out. */
  events = 0;
  /** The terminal marker has come; or the operation has none. */
  complete: boolean;
  #outputEvents = 0;
  #outputCharacters = 0;
  readonly #options: StreamCheckOptions;
  readonly #scanner: EventScanner;
  #fault: StreamFault | undefined = undefined;

  constructor(options: StreamCheckOptions) {
    this.#options = options;
    this.#scanner = new EventScanner(options.maxEventBytes);
    const { events } = traitsOf(options.operation);
    this.complete = events === undefined || events === 'unmarked';
  }

  /** From the texts of the events, for a stream that does not tell its usage: at least a token an event. */
  get estimatedOutputTokens(): number {
    return Math.max(this.#outputEvents, Math.ceil(this.#outputCharacters / CHARACTERS_PER_TOKEN));
  }

  /** Takes the next bytes; calls `forward` with what may go on, which is nothing of a faulty event or after it. */
  push(chunk: Buffer, forward: (bytes: Buffer) => void): StreamFault | undefined {
    // Neighbouring events go on in one piece.
    let run: Buffer | undefined;
    let runStart = 0;
    let runEnd = 0;
    const flush = (): void => {
      if (run !== undefined && runEnd > runStart) forward(run.subarray(runStart, runEnd));
      run = undefined;
    };
    const fits = this.#scanner.push(chunk, (buffer, start, end) => {
      if (this.#fault !== undefined || !this.#accept(fieldsOf(buffer, start, end))) return;
      if (run === buffer && runEnd === start) runEnd = end;
      else {
        flush();
        run = buffer;
        runStart = start;
        runEnd = end;
      }
    });
    flush();
    if (!fits) this.#fault ??= 'answer_too_large';
    return this.#fault;
  }

  /** The bytes are over. A last event without its blank line counts when it is the marker. */
  end(forward: (bytes: Buffer) => void): 'stream_cut' | undefined {
    if (this.#scanner.unfinished > 0 && this.#fault === undefined) {
      const rest = this.#scanner.takeUnfinished();
      if (!this.complete) this.#accept(fieldsOf(rest, 0, rest.length));
      if (this.complete) forward(rest);
    }
    return this.complete ? undefined : 'stream_cut';
  }

  /** True when the event may be passed on. */
  #accept({ event, data }: EventFields): boolean {
    if (data === undefined || event === 'ping') return true;
    if (data === DONE) {
      this.complete = true;
      this.events++;
      return true;
    }
    if (this.#options.operation === 'other') {
      this.events++;
      return true;
    }
    let value: unknown;
    try {
      value = JSON.parse(data);
    } catch {
      this.#fault = 'malformed_answer';
      return false;
    }
    const type = event === '' ? typeOf(value) : event;
    if (type === 'ping') return true;
    this.events++;
    const text = readAnswer(value, this.facts);
    if (this.#options.operation === 'responses' && type !== undefined && RESPONSE_ENDS.has(type))
      this.complete = true;
    if (this.#options.operation === 'messages' && type === 'message_stop') this.complete = true;
    if (type === 'error') this.facts.error = true;
    if (text !== undefined && text !== '' && !this.#countText(text)) return false;
    return !(this.#options.stripUsage && isUsageOnly(value));
  }

  #countText(text: string): boolean {
    this.#outputCharacters += text.length;
    if (++this.#outputEvents <= this.#options.maxOutputEvents) return true;
    this.#fault = 'budget_exhausted';
    return false;
  }
}

function typeOf(value: unknown): string | undefined {
  const type = (value as { type?: unknown } | null)?.type;
  return typeof type === 'string' ? type : undefined;
}

/** The extra event of `stream_options.include_usage`: usage and no choices. */
function isUsageOnly(value: unknown): boolean {
  const { choices, usage } = (value ?? {}) as { choices?: unknown; usage?: unknown };
  return Array.isArray(choices) && choices.length === 0 && usage !== null && usage !== undefined;
}
