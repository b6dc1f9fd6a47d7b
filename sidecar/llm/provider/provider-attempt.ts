/**
 * A provider attempt is one try of a request at one upstream: its clocks, and its answer's way to the caller.
 *
 *     connecting ──▶ waiting ──first byte──▶ flowing ──▶ over
 *      connect_failed  first_byte, deadline    idle, stream_cut, …
 *
 * Of an answer that is understood nothing is given to the caller until the first byte that means something, so that
 * another upstream can be asked. From then on it is committed: what goes wrong now breaks the caller's connection, after
 * an error event where the answer is a stream of events.
 */
import { Timer } from '../../clock/timer-wheel.ts';
import { type AnswerBody, RawBody } from '../answer/answer-body.ts';
import { AnswerHead } from '../answer/answer-head.ts';
import { expectationOf } from '../answer/answer-kind.ts';
import { billingCode, ERROR_BODY_MS, ErrorBody, isReadableError } from '../answer/error-body.ts';
import { FirstBytesBody } from '../answer/first-bytes.ts';
import { HeldBytes } from '../answer/held-answers.ts';
import { noFacts } from '../answer/usage.ts';
import { errorEvent, type RefusalReason } from '../caller/refusals.ts';
import { Relay, type RelayError, type RelayHandlers } from '../relay/relay.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import { traitsOf } from '../shared/operations.ts';
import type { ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import { ignore, shortLived } from '../shared/short-lived.ts';
import { AnswerLife } from './answer-life.ts';
import { describeFailure, type FailureDetails, isBrokenHead, isStale } from './describe-failure.ts';
import { ProviderAttemptClocks } from './provider-attempt-clocks.ts';
import type {
  ProviderAttemptEnd,
  ProviderAttemptOptions,
  ProviderAttemptOwner,
} from './provider-attempt-owner.ts';

/** An error's body that nobody reads is read up to here, so that the connection can be used again. */
const MAX_SKIPPED_BYTES = 65_536;
const NOTHING = Buffer.alloc(0);

export class ProviderAttempt extends Timer implements RelayHandlers {
  private readonly options: ProviderAttemptOptions;
  private readonly owner: ProviderAttemptOwner;
  private readonly clocks: ProviderAttemptClocks;
  private readonly life: AnswerLife;
  private readonly relay: Relay;
  /** Of all that is held of the answer. */
  private readonly memory = new HeldBytes();
  private readonly head = new AnswerHead(this.memory);
  private body: AnswerBody | undefined = undefined;
  /** Of an answer that is an error, until it is decided what becomes of it. */
  private error: ErrorBody | undefined = undefined;
  private errorBody: Buffer = NOTHING;
  /** Of the answer. */
  private bytes = 0;
  private isGood = false;
  private isCommitted = false;
  /** Of a discarded answer. */
  private skippedBytes = -1;
  private over = false;

  constructor(options: ProviderAttemptOptions, owner: ProviderAttemptOwner) {
    super();
    this.options = options;
    this.owner = owner;
    this.clocks = new ProviderAttemptClocks(options, options.facts.stream, options.clock());
    this.life = new AnswerLife(this.clocks, options);
    options.sink.onDrain = shortLived(() => this.resume());
    this.relay = new Relay(options.request, this);
    this.arm();
  }

  /** Closes the request to the provider at once; no `onEnd` follows. */
  abort(): ProviderAttemptEnd {
    const end = this.endWith(undefined);
    this.close();
    this.relay.abort();
    return end;
  }

  /** Something of the answer has been given to the caller. */
  get committed(): boolean {
    return this.isCommitted;
  }

  /** All of the answer has come that anybody waits for; undefined while it has not. */
  get whole(): ProviderAttemptEnd | undefined {
    const body = this.body;
    return this.isCommitted && body?.complete ? this.endWith(this.answerFailure(body)) : undefined;
  }

  /** The provider may be working on the request: it has it whole, and nothing of an answer has come. */
  get mayBeRunning(): boolean {
    return this.relay.sent && this.head.status < 400 && this.body?.begun !== true;
  }

  /** The provider has the whole request. */
  get sent(): boolean {
    return this.relay.sent;
  }

  /** What ends the answer when somebody else breaks it off; undefined where no event can stand. */
  errorEvent(reason: RefusalReason, message: string): Buffer | undefined {
    if (this.body?.isEvents !== true) return undefined;
    return errorEvent(this.options.facts.operation, reason, message);
  }

  onConnected(): void {
    this.clocks.connected = true;
    this.arm();
  }

  onHead(status: number, headers: HttpHeaders, costBytes: number): void {
    if (this.over) return;
    const isHeld = this.head.take(status, headers, costBytes);
    this.clocks.connected = true;
    this.owner.onHeaders(status, headers);
    if (status < 400) {
      this.beginAnswer(status, headers, isHeld);
      return;
    }
    this.options.life.aliveMs = this.options.clock();
    if (isHeld && isReadableError(headers)) {
      this.error = new ErrorBody(this.options.life.aliveMs, this.memory);
      this.arm();
    } else {
      this.decide(NOTHING);
    }
  }

  /** @param isHeld there is room to hold it; else it is passed on as it comes */
  private beginAnswer(status: number, headers: HttpHeaders, isHeld: boolean): void {
    const { request, facts, stripUsage, maxOutputEvents, resend, clock } = this.options;
    const clocks = this.clocks;
    const { isUnread, isEvents } = expectationOf(request.method, facts, status, headers);
    const changes = isEvents || clocks.isStream;
    clocks.isStream = isEvents;
    if (isUnread) {
      // Nothing of it decides anything, so the caller has the head when it comes.
      this.body = new RawBody();
      this.commit();
      this.options.sink.flushHead();
    } else {
      const { choices, operation } = facts;
      const expected = { traits: traitsOf(operation), choices, expectsEvents: isEvents };
      this.body = new FirstBytesBody({ ...expected, stripUsage, maxOutputEvents, memory: this.memory });
      if (isEvents && !resend) clocks.headAtMs = clock();
    }
    if (!isHeld && !this.isCommitted) this.release(this.body);
    else if (changes) this.arm();
  }

  /** The answer is an error: the caller gets it, or somebody else is asked. */
  private decide(body: Buffer): void {
    this.error = undefined;
    this.errorBody = body;
    const failure = this.failureOf('status', { outOfCredit: billingCode(this.head.status, body) });
    if (this.owner.passesOn(failure, body)) {
      this.body = new RawBody();
      this.commit();
      if (body.length > 0) this.onData(body);
      return;
    }
    this.skippedBytes = 0;
    this.finish(failure);
    // One that never ends it would keep the connection for ever.
    const { wheel, clock } = this.options;
    wheel.arm(this, clock() + ERROR_BODY_MS);
  }

  /** An error is all there is of an answer: it is dealt with as if its status had said so. */
  private decideAnswer(body: AnswerBody): void {
    const failure = this.answerFailure(body)!;
    if (this.owner.passesOn(failure, Buffer.from(body.facts.error!.message))) {
      this.commit();
      body.release(this.forward);
      return;
    }
    this.relay.abort();
    this.finish(failure);
  }

  private answerFailure({ facts: { error }, isGood }: AnswerBody): ProviderFailure | undefined {
    if (error === undefined) return undefined;
    // Behind a part of an answer it comes too late to cost nothing.
    return this.failureOf('status', { answerError: error, outOfCredit: error.outOfCredit, paid: isGood });
  }

  onData(chunk: Buffer): void {
    if (this.skippedBytes >= 0) {
      this.skippedBytes += chunk.length;
      if (this.skippedBytes > MAX_SKIPPED_BYTES) this.relay.abort();
      return;
    }
    if (this.error !== undefined) {
      if (!this.error.push(chunk)) this.decide(this.error.take());
      return;
    }
    const body = this.body;
    if (this.over || body === undefined) return;
    this.bytes += chunk.length;
    const isTooLarge = this.bytes > this.options.maxAnswerBytes;
    const fault = isTooLarge ? 'answer_too_large' : body.push(chunk, this.forward);
    if (this.life.note(body)) this.arm();
    if (fault !== undefined) this.fail(fault);
    else if (body.isError) this.decideAnswer(body);
    else if (body.isGood) this.noteAnswer();
  }

  private noteAnswer(): void {
    if (this.isGood || this.head.status >= 400) return;
    this.isGood = true;
    this.owner.onAnswer();
  }

  onEnd(): void {
    if (this.error !== undefined) this.decide(this.error.take());
    if (this.over) this.options.wheel.cancel(this);
    const body = this.body;
    if (this.over || body === undefined) return;
    const fault = body.end(this.forward);
    if (fault !== undefined) {
      this.fail(fault);
      return;
    }
    if (body.isError) this.decideAnswer(body);
    if (!this.over) this.complete(body);
  }

  /** The answer has ended, and is whole. */
  private complete(body: AnswerBody): void {
    if (!this.isCommitted) this.commit();
    const failure = this.answerFailure(body);
    if (failure === undefined) this.noteAnswer();
    this.options.sink.end();
    this.finish(failure);
  }

  onError({ code, connected, reused }: RelayError): void {
    if (this.error !== undefined) this.decide(this.error.take());
    if (this.over) this.options.wheel.cancel(this);
    if (this.over) return;
    if (this.body?.complete) {
      this.complete(this.body);
      return;
    }
    const answering = this.head.status > 0 && (this.life.firstByteMs > 0 || this.isCommitted);
    if (answering) {
      this.fail(this.body?.isEvents === true ? 'stream_cut' : 'answer_cut', { code });
    } else {
      const sinceMs = this.relay.sent ? this.options.clock() - this.clocks.startedMs : 0;
      const stale = reused && this.head.status === 0 && isStale(code, sinceMs);
      this.fail(connected ? 'connection_lost' : 'connect_failed', { code, stale });
    }
  }

  onUnusable(what: string): void {
    if (this.over) return;
    const paid = this.head.status > 0 || isBrokenHead(what);
    this.error = undefined;
    this.fail('upstream_protocol', { code: what, paid });
  }

  override onTimeout(nowMs: number): void {
    const clock = this.clocks.next();
    const due = clock !== undefined && nowMs >= this.clocks.atMs;
    if (this.over) this.relay.abort();
    else if (this.error !== undefined && (due || nowMs >= this.error.untilMs)) this.decide(this.error.take());
    else if (!due) this.arm();
    else if (clock === 'connect_timeout') this.fail('connect_failed', { code: 'ETIMEDOUT' });
    else if (clock === 'first_byte_timeout') this.fail('first_byte', { clock });
    else if (this.body?.complete === true) {
      // Whole, though the provider does not end it.
      this.relay.abort();
      this.complete(this.body);
    } else if (clock === 'idle_timeout') this.fail('idle', { clock });
    else if ((clock === 'client' || clock === 'held_head') && this.body !== undefined)
      this.release(this.body);
    else this.fail('deadline', { clock });
  }

  /**
   * The client would give up, but the answer has a head: it gets what there is, and goes by its own clock. Without us it
   * would have had the head long ago.
   */
  private release(body: AnswerBody): void {
    this.clocks.released = true;
    body.release(this.forward);
    if (!this.isCommitted) this.commit();
    this.options.sink.flushHead();
    this.arm();
  }

  /** To the next of the clocks; signs of life move them without arming anew. */
  private arm(): void {
    if (this.over) return;
    const { wheel } = this.options;
    let atMs = this.clocks.next() === undefined ? Number.POSITIVE_INFINITY : this.clocks.atMs;
    if (this.error !== undefined) atMs = Math.min(atMs, this.error.untilMs);
    if (Number.isFinite(atMs)) wheel.arm(this, atMs);
    else wheel.cancel(this);
  }

  private readonly forward = (bytes: Buffer): void => {
    if (!this.isCommitted) this.commit();
    if (this.options.sink.write(bytes) || this.clocks.paused) return;
    this.clocks.paused = true;
    this.relay.pause();
  };

  private resume(): void {
    if (!this.clocks.paused) return;
    this.clocks.paused = false;
    // While the caller did not read the provider could show no life.
    this.clocks.aliveMs = this.options.clock();
    if (!this.armed) this.arm();
    this.relay.resume();
  }

  private commit(): void {
    this.isCommitted = true;
    const isEvents = this.body?.isEvents === true;
    const { status, headers } = this.head;
    this.options.sink.head(status, this.owner.headersFor(status, headers, isEvents));
    this.head.passOn();
    this.owner.onCommit(status);
  }

  private fail(reason: ProviderFailureReason, about: FailureDetails = {}): void {
    if (this.over) return;
    const { sink, facts } = this.options;
    const failure = this.failureOf(reason, about);
    // Taken down first: breaking off may tell us that the caller is gone.
    const end = this.endWith(failure, about.stale);
    this.close();
    this.relay.abort();
    if (this.isCommitted) {
      const body = this.body;
      const told = body?.isEvents === true && body.facts.error === undefined;
      const name = reason === 'status' ? 'stream_cut' : reason;
      sink.breakOff(told ? errorEvent(facts.operation, name, failure.message) : undefined);
    }
    this.owner.onEnd(end);
  }

  private finish(failure: ProviderFailure | undefined): void {
    const end = this.endWith(failure);
    this.close();
    this.owner.onEnd(end);
  }

  private close(): void {
    this.over = true;
    this.body?.drop();
    this.head.drop();
    this.memory.clear();
    this.errorBody = NOTHING;
    this.options.wheel.cancel(this);
    this.options.sink.onDrain = ignore;
  }

  private endWith(failure: ProviderFailure | undefined, stale = false): ProviderAttemptEnd {
    const facts = this.body?.facts ?? noFacts();
    return {
      committed: this.isCommitted,
      failure,
      status: this.head.status,
      errorBody: facts.error === undefined ? this.errorBody : Buffer.from(facts.error.message),
      facts,
      estimatedOutputTokens: this.body?.estimatedOutputTokens ?? 0,
      firstByteMs: this.life.firstByteMs,
      stale,
    };
  }

  private failureOf(reason: ProviderFailureReason, details: FailureDetails): ProviderFailure {
    return describeFailure(reason, details, this.options, this.clocks, {
      status: this.head.status,
      headers: this.head.headers,
      sent: this.relay.sent,
      mayBeRunning: this.mayBeRunning,
    });
  }
}
