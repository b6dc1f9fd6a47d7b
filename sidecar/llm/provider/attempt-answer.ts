/** Holds what has come of the answer to one attempt: its head, its body, or the body of an error. */
import { type AnswerBody, type Forward, RawBody } from '../answer/answer-body.ts';
import { AnswerHead } from '../answer/answer-head.ts';
import { ErrorBody, isReadableError } from '../answer/error-body.ts';
import { FirstBytesBody } from '../answer/first-bytes.ts';
import { HeldBytes } from '../answer/held-answers.ts';
import { mayNameStored, StoredIds } from '../answer/stored-ids.ts';
import { noFacts } from '../kinds/answer-facts.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import type { ProviderAttemptEnd, ProviderAttemptOptions } from './provider-attempt-owner.ts';

const NOTHING = Buffer.alloc(0);

export class AttemptAnswer {
  private readonly options: ProviderAttemptOptions;
  /** Counts all that is held of the answer. */
  private readonly memory = new HeldBytes();
  readonly head = new AnswerHead(this.memory);
  /** Undefined before the head, and while an error is held. */
  body: AnswerBody | undefined = undefined;
  /** The body of an error, while the attempt decides what becomes of it. */
  error: ErrorBody | undefined = undefined;
  private errorBody: Buffer = NOTHING;
  private bytes = 0;

  constructor(options: ProviderAttemptOptions) {
    this.options = options;
  }

  /** Holds the body of an error; returns false where it can't be read before the decision. */
  holdError(headers: HttpHeaders, nowMs: number): boolean {
    if (!isReadableError(headers)) return false;
    this.error = new ErrorBody(nowMs, this.memory);
    return true;
  }

  /** Ends the wait for an error's body: returns what has come of it. */
  takeError(): Buffer {
    this.errorBody = this.error?.take() ?? NOTHING;
    this.error = undefined;
    return this.errorBody;
  }

  dropError(): void {
    this.error = undefined;
  }

  /** From now on the answer passes as it comes. */
  passRaw(): RawBody {
    const { operation } = this.options.facts;
    const { status, headers } = this.head;
    const mayName = status < 300 && mayNameStored(operation, headers);
    const body = new RawBody(mayName ? new StoredIds() : undefined);
    this.body = body;
    return body;
  }

  /** From now on the answer is held until its first bytes show its kind. */
  hold(expectsEvents: boolean): AnswerBody {
    const { facts, stripUsage, maxOutputEvents } = this.options;
    const { choices, isArray, operation } = facts;
    const traits = traitsOf(operation);
    const { memory } = this;
    this.body = new FirstBytesBody({
      traits,
      choices,
      isArray,
      expectsEvents,
      stripUsage,
      maxOutputEvents,
      memory,
    });
    return this.body;
  }

  /** Takes bytes of the body. */
  push(body: AnswerBody, chunk: Buffer, forward: Forward): ProviderFailureReason | undefined {
    this.bytes += chunk.length;
    return this.bytes > this.options.maxAnswerBytes ? 'answer_too_large' : body.push(chunk, forward);
  }

  /** Frees what is held; the facts for {@link end} must have been taken before. */
  drop(): void {
    this.body?.drop();
    this.head.drop();
    this.memory.clear();
    this.errorBody = NOTHING;
  }

  end(
    committed: boolean,
    failure: ProviderFailure | undefined,
    firstByteMs: number,
    stale: boolean,
  ): ProviderAttemptEnd {
    const facts = this.body?.facts ?? noFacts();
    return {
      committed,
      failure,
      status: this.head.status,
      errorBody: facts.error === undefined ? this.errorBody : Buffer.from(facts.error.message),
      facts,
      estimatedOutputTokens: this.body?.estimatedOutputTokens ?? 0,
      firstByteMs,
      stale,
    };
  }
}
