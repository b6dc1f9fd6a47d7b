/** Holds an answer until its first bytes show its kind, and hands it to the body of that kind. Pure. */

import { type AnswerFacts, noFacts } from '../kinds/answer-facts.ts';
import type { OperationTraits } from '../kinds/traits.ts';
import type { ProviderFailureReason } from '../shared/provider-failure.ts';
import {
  type AnswerBody,
  EventsBody,
  type Forward,
  JsonBody,
  MAX_HELD_BYTES,
  RawBody,
} from './answer-body.ts';
import { type AnswerKind, kindOf } from './answer-kind.ts';
import { HeldBytes } from './held-answers.ts';
import type { StreamCheckOptions } from './stream-check.ts';

/** After so much white space the kind is the expected one. */
const MAX_UNDECIDED_BYTES = 65_536;

export interface FirstBytesOptions
  extends Omit<StreamCheckOptions, 'dialect' | 'maxHeldEventBytes' | 'memory'> {
  readonly traits: OperationTraits;
  /** Whether the request and the response head announce a stream of events. */
  readonly expectsEvents: boolean;
  /** Counts all that is held of the answer; by default the body alone. */
  readonly memory?: HeldBytes;
}

export class FirstBytesBody implements AnswerBody {
  private readonly options: FirstBytesOptions;
  private readonly memory: HeldBytes;
  private body: AnswerBody | undefined = undefined;
  private held: Buffer[] = [];
  private heldBytes = 0;
  /** Signs of life before the kind is known. */
  private undecidedSigns = 0;
  private released = false;
  private readonly noFacts = noFacts();

  constructor(options: FirstBytesOptions) {
    this.options = options;
    this.memory = options.memory ?? new HeldBytes();
  }

  get facts(): AnswerFacts {
    return this.body?.facts ?? this.noFacts;
  }

  get estimatedOutputTokens(): number {
    return this.body?.estimatedOutputTokens ?? 0;
  }

  get signs(): number {
    return this.undecidedSigns + (this.body?.signs ?? 0);
  }

  get isEvents(): boolean {
    return this.body?.isEvents ?? this.options.expectsEvents;
  }

  get begun(): boolean {
    return this.body?.begun ?? false;
  }

  get isGood(): boolean {
    return this.body?.isGood ?? false;
  }

  get isError(): boolean {
    return this.body?.isError ?? false;
  }

  get complete(): boolean {
    return this.body?.complete ?? false;
  }

  get flowing(): boolean {
    return this.body?.flowing ?? false;
  }

  push(chunk: Buffer, forward: Forward): ProviderFailureReason | undefined {
    if (this.body !== undefined) return this.body.push(chunk, forward);
    this.held.push(chunk);
    this.heldBytes += chunk.length;
    const head = this.held.length === 1 ? chunk : Buffer.concat(this.held);
    const kind = kindOf(head);
    if (kind !== undefined) return this.become(kind, head, forward);
    // Some providers send white space while they work on a plain answer.
    if (!this.isEvents) this.undecidedSigns++;
    if (this.heldBytes > MAX_UNDECIDED_BYTES)
      return this.become(this.isEvents ? 'events' : 'json', head, forward);
    this.held = [head];
    return undefined;
  }

  release(forward: Forward): void {
    if (this.body !== undefined) this.body.release(forward);
    else this.released = true;
  }

  end(forward: Forward): ProviderFailureReason | undefined {
    if (this.body !== undefined) return this.body.end(forward);
    // A stream needs events; a plain answer may be empty.
    if (this.options.expectsEvents) return 'stream_cut';
    if (this.heldBytes > 0) forward(Buffer.concat(this.held));
    return undefined;
  }

  drop(): void {
    this.memory.clear();
  }

  private become(kind: AnswerKind, head: Buffer, forward: Forward): ProviderFailureReason | undefined {
    const { traits, choices, isArray, stripUsage, maxOutputEvents } = this.options;
    const { events: dialect, answersJson } = traits;
    const memory = this.memory;
    this.held = [];
    const isElements = isArray === true && kind === 'json';
    if ((kind === 'events' || isElements) && dialect !== undefined) {
      const maxHeldEventBytes = MAX_HELD_BYTES;
      this.body = new EventsBody({
        dialect,
        isArray: isElements,
        choices,
        maxHeldEventBytes,
        stripUsage,
        maxOutputEvents,
        memory,
      });
    } else {
      this.body = kind === 'json' && answersJson ? new JsonBody(traits.read, memory) : new RawBody();
    }
    if (this.released) this.body.release(forward);
    return this.body.push(head, forward);
  }
}
