/**
 * Makes one try of a request at one upstream: runs its clocks, and passes its answer on to the caller.
 *
 * `attempt-state.ts` draws the states. Of an answer that the egress understands the caller gets nothing before the first
 * byte that means something, so that another upstream can be asked. From then on the attempt is committed: a failure
 * breaks the caller's connection, after an error event where the answer is a stream of events.
 */
import { Timer } from '../../clock/timer-wheel.ts';
import { step } from '../../errors/illegal-step.ts';
import type { AnswerBody } from '../answer/answer-body.ts';
import { expectationOf } from '../answer/answer-kind.ts';
import { billingCode, ERROR_BODY_MS, waitInBody } from '../answer/error-body.ts';
import { errorEvent, type RefusalReason } from '../caller/refusals.ts';
import type { ProviderRelay, RelayError, RelayHandlers } from '../relay/provider-relay.ts';
import { startRelay } from '../relay/start-relay.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ClockName, ProviderFailure, ProviderFailureReason } from '../shared/provider-failure.ts';
import { ignore, shortLived } from '../shared/short-lived.ts';
import { AnswerLife } from './answer-life.ts';
import { AttemptAnswer } from './attempt-answer.ts';
import { AttemptFacts } from './attempt-facts.ts';
import { ATTEMPT_ARROWS, type AttemptState } from './attempt-state.ts';
import { type FailureDetails, isBrokenHead } from './describe-failure.ts';
import { actionOf, ProviderAttemptClocks } from './provider-attempt-clocks.ts';
import type {
  ProviderAttemptEnd,
  ProviderAttemptOptions,
  ProviderAttemptOwner,
} from './provider-attempt-owner.ts';

/** The most bytes of an unwanted error that are read; a connection with a longer one is closed. */
const MAX_SKIPPED_BYTES = 65_536;

export class ProviderAttempt extends Timer implements RelayHandlers {
  private readonly options: ProviderAttemptOptions;
  private readonly owner: ProviderAttemptOwner;
  private readonly clocks: ProviderAttemptClocks;
  private readonly life: AnswerLife;
  private readonly relay: ProviderRelay;
  private readonly answer: AttemptAnswer;
  private readonly facts: AttemptFacts;
  private state: AttemptState = 'asking';
  /** The owner knows that the bytes so far are an answer. */
  private isNoted = false;
  private skippedBytes = 0;

  constructor(options: ProviderAttemptOptions, owner: ProviderAttemptOwner) {
    super();
    this.options = options;
    this.owner = owner;
    this.answer = new AttemptAnswer(options);
    this.clocks = new ProviderAttemptClocks(options, options.facts.stream, options.clock());
    this.life = new AnswerLife(this.clocks, options);
    options.sink.onDrain = shortLived(() => this.resume());
    this.relay = startRelay(options.connections, options.request, this);
    this.facts = new AttemptFacts(options, this.clocks, this.life, this.answer, this.relay);
    this.arm();
  }

  private become(state: AttemptState): void {
    this.state = step(ATTEMPT_ARROWS, this.state, state);
  }

  /** The owner has the end of the attempt. */
  private get isOver(): boolean {
    return this.state === 'over' || this.state === 'skipping';
  }

  /** The caller has received something of the answer. */
  get committed(): boolean {
    return this.state === 'committed';
  }

  /** The end of an answer of which the caller has all that it waits for; undefined before. */
  get whole(): ProviderAttemptEnd | undefined {
    const { body } = this.answer;
    return this.committed && body?.complete ? this.facts.end(true, this.facts.failureIn(body)) : undefined;
  }

  get mayBeRunning(): boolean {
    return this.facts.mayBeRunning;
  }

  /** The provider has the whole request. */
  get sent(): boolean {
    return this.relay.sent;
  }

  /** Closes the request to the provider at once; no `onEnd` follows. */
  abort(): ProviderAttemptEnd {
    const end = this.facts.end(this.committed, undefined);
    this.close('over');
    this.relay.abort();
    return end;
  }

  /** The event with which the owner breaks a stream off; undefined where no event can stand. */
  errorEvent(reason: RefusalReason, message: string): Buffer | undefined {
    const { body } = this.answer;
    if (body?.isEvents !== true) return undefined;
    return errorEvent(this.options.facts, body.begun, reason, message);
  }

  // --- The answer ------------------------------------------------------------------------------------------

  onConnected(): void {
    this.clocks.connected = true;
    this.arm();
  }

  onHead(status: number, headers: HttpHeaders, costBytes: number): void {
    if (this.isOver) return;
    const { answer } = this;
    const isHeld = answer.head.take(status, headers, costBytes);
    this.clocks.connected = true;
    this.owner.onHeaders(status, headers);
    if (status < 400) {
      this.beginAnswer(status, headers, isHeld);
      return;
    }
    this.become('deciding');
    this.options.life.aliveMs = this.options.clock();
    if (isHeld && answer.holdError(headers, this.options.life.aliveMs)) this.arm();
    else this.decide();
  }

  /** @param isHeld there is room to hold the answer; without room the caller gets it as it comes */
  private beginAnswer(status: number, headers: HttpHeaders, isHeld: boolean): void {
    const { request, facts, resend, clock, sink } = this.options;
    const { clocks, answer } = this;
    this.become('holding');
    const { isUnread, isEvents } = expectationOf(request.method, facts, status, headers);
    const otherClocks = isEvents || clocks.isStream;
    clocks.isStream = isEvents;
    let body: AnswerBody;
    if (isUnread) {
      // Nothing of it decides anything, so the caller gets the head at once.
      body = answer.passRaw();
      this.commit();
      sink.flushHead();
    } else {
      body = answer.hold(isEvents);
      if (isEvents && !resend) clocks.headAtMs = clock();
    }
    if (!isHeld && this.state === 'holding') this.release(body);
    else if (otherClocks) this.arm();
  }

  onData(chunk: Buffer): void {
    const { answer } = this;
    switch (this.state) {
      case 'skipping':
        this.skippedBytes += chunk.length;
        if (this.skippedBytes > MAX_SKIPPED_BYTES) this.stopSkipping();
        return;
      case 'deciding':
        if (answer.error?.push(chunk) === false) this.decide();
        return;
      case 'holding':
      case 'committed':
        this.take(answer.body!, chunk);
        return;
      case 'asking':
      case 'over':
        return;
      default:
        this.state satisfies never;
    }
  }

  private take(body: AnswerBody, chunk: Buffer): void {
    const fault = this.answer.push(body, chunk, this.forward);
    if (this.life.note(body)) this.arm();
    if (fault !== undefined) this.fail(fault);
    else if (body.isError) this.decideAnswer(body);
    else if (body.isGood) this.noteAnswer();
  }

  /** Tells the owner, once, that the bytes so far are an answer. */
  private noteAnswer(): void {
    if (this.isNoted || this.answer.head.status >= 400) return;
    this.isNoted = true;
    this.owner.onAnswer();
  }

  /** Decides on an error, with what has come of its body: the caller gets it, or another attempt follows. */
  private decide(): void {
    const body = this.answer.takeError();
    const { status } = this.answer.head;
    const outOfCredit = billingCode(status, body);
    const waitMs = waitInBody(this.options.kind, status, body);
    const failure = this.facts.failure('status', { outOfCredit, waitMs });
    if (this.owner.passesOn(failure, body)) {
      const raw = this.answer.passRaw();
      this.commit();
      if (body.length > 0) this.take(raw, body);
      return;
    }
    this.finish(failure, 'skipping');
    // A provider that never ends the error would keep the connection for ever.
    const { wheel, clock } = this.options;
    wheel.arm(this, clock() + ERROR_BODY_MS);
  }

  /** Decides on an answer that is nothing but an error, as if its status had said so. */
  private decideAnswer(body: AnswerBody): void {
    const failure = this.facts.failureIn(body)!;
    if (this.owner.passesOn(failure, Buffer.from(body.facts.error!.message))) {
      this.commit();
      body.release(this.forward);
      return;
    }
    this.relay.abort();
    this.finish(failure);
  }

  private stopSkipping(): void {
    this.become('over');
    this.options.wheel.cancel(this);
    this.relay.abort();
  }

  // --- Its end ---------------------------------------------------------------------------------------------

  onEnd(): void {
    if (this.state === 'deciding') this.decide();
    if (this.endSkipping()) return;
    const { body } = this.answer;
    if (this.isOver || body === undefined) return;
    const fault = body.end(this.forward);
    if (fault !== undefined) {
      this.fail(fault);
      return;
    }
    if (body.isError) this.decideAnswer(body);
    if (!this.isOver) this.complete(body);
  }

  /** All of the answer is here. */
  private complete(body: AnswerBody): void {
    if (this.state === 'holding') this.commit();
    const failure = this.facts.failureIn(body);
    if (failure === undefined) this.noteAnswer();
    this.options.sink.end();
    this.finish(failure);
  }

  /** The connection of a skipped error is free again. */
  private endSkipping(): boolean {
    if (this.state !== 'skipping') return false;
    this.become('over');
    this.options.wheel.cancel(this);
    return true;
  }

  onError(error: RelayError): void {
    if (this.state === 'deciding') this.decide();
    if (this.endSkipping() || this.isOver) return;
    const { body } = this.answer;
    if (body?.complete) this.complete(body);
    else this.fail(...this.facts.lossOf(error, this.committed));
  }

  onUnusable(what: string): void {
    if (this.isOver) return;
    const paid = this.answer.head.status > 0 || isBrokenHead(what);
    this.answer.dropError();
    this.fail('upstream_protocol', { code: what, paid });
  }

  private fail(reason: ProviderFailureReason, about: FailureDetails = {}): void {
    if (this.isOver) return;
    const { sink, facts } = this.options;
    const { body } = this.answer;
    const failure = this.facts.failure(reason, about);
    const end = this.facts.end(this.committed, failure, about.stale);
    // Close first: the break may make the sink report that the caller is gone.
    this.close('over');
    this.relay.abort();
    if (end.committed) {
      const mayTell = body?.isEvents === true && body.facts.error === undefined;
      const name = reason === 'status' ? 'stream_cut' : reason;
      sink.breakOff(mayTell ? errorEvent(facts, body.begun, name, failure.message) : undefined);
    }
    this.owner.onEnd(end);
  }

  private finish(failure: ProviderFailure | undefined, to: 'over' | 'skipping' = 'over'): void {
    const end = this.facts.end(this.committed, failure);
    this.close(to);
    this.owner.onEnd(end);
  }

  private close(to: 'over' | 'skipping'): void {
    if (this.state !== 'over') this.become(to);
    this.answer.drop();
    this.options.wheel.cancel(this);
    this.options.sink.onDrain = ignore;
  }

  // --- Its clocks ------------------------------------------------------------------------------------------

  override onTimeout(nowMs: number): void {
    if (this.state === 'skipping') {
      this.stopSkipping();
      return;
    }
    if (this.isOver) return;
    const { error } = this.answer;
    const clock = this.clocks.next();
    const isDue = clock !== undefined && nowMs >= this.clocks.atMs;
    if (error !== undefined && (isDue || nowMs >= error.untilMs)) this.decide();
    else if (isDue) this.onClock(clock);
    else this.arm();
  }

  private onClock(clock: ClockName): void {
    const { body } = this.answer;
    const action = actionOf(clock, body);
    if (action === 'complete') {
      // The answer is whole, though the provider does not end it.
      this.relay.abort();
      this.complete(body!);
    } else if (action === 'release') {
      this.release(body!);
    } else {
      this.fail(action, action === 'connect_failed' ? { code: 'ETIMEDOUT' } : { clock });
    }
  }

  /**
   * Passes on what has come, because the client would give up otherwise: with the head it goes by its own clock. Without
   * the egress it would have had the head long before.
   */
  private release(body: AnswerBody): void {
    this.clocks.released = true;
    body.release(this.forward);
    if (this.state === 'holding') this.commit();
    this.options.sink.flushHead();
    this.arm();
  }

  /** Arms the timer for the next of the clocks; a sign of life moves a clock without arming the timer anew. */
  private arm(): void {
    if (this.isOver) return;
    const { wheel } = this.options;
    const { error } = this.answer;
    let atMs = this.clocks.next() === undefined ? Number.POSITIVE_INFINITY : this.clocks.atMs;
    if (error !== undefined) atMs = Math.min(atMs, error.untilMs);
    if (Number.isFinite(atMs)) wheel.arm(this, atMs);
    else wheel.cancel(this);
  }

  // --- The caller ------------------------------------------------------------------------------------------

  private readonly forward = (bytes: Buffer): void => {
    if (this.isOver) return;
    if (this.state !== 'committed') this.commit();
    if (this.options.sink.write(bytes, this.answer.body?.complete) || this.clocks.paused) return;
    this.clocks.paused = true;
    this.relay.pause();
  };

  private resume(): void {
    if (!this.clocks.paused) return;
    this.clocks.paused = false;
    // While the caller did not read, the provider could show no life.
    this.clocks.aliveMs = this.options.clock();
    if (!this.armed) this.arm();
    this.relay.resume();
  }

  private commit(): void {
    this.become('committed');
    const { head, body } = this.answer;
    const isEvents = body?.isEvents === true;
    const { status } = head;
    this.options.sink.head(status, this.owner.headersFor(status, head.headers, isEvents));
    head.passOn();
    this.owner.onCommit(status);
  }
}
