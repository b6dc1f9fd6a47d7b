/** The attempts of a call, and the events that they report. */

import type { Endpoint } from '../cluster/endpoint.ts';
import { RUN_HEADER } from '../grpc/hop-fields.ts';
import { ATTEMPT_COMES_BACK } from '../grpc/sidecar-settings.ts';
import { Status } from '../grpc/status.ts';
import { ErrorCode } from '../http2/frame.ts';
import { headOf, type MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import { outcomeUnknown } from '../policy/retry.ts';
import { type RelayedCall, relayData, relayEnd, relayHead } from './answer-relay.ts';
import { Attempt, type AttemptOwner } from './attempt.ts';
import type { AttemptClockName } from './attempt-clock.ts';
import { type AttemptFailure, endKindOf } from './attempt-failure.ts';
import type { CallWith } from './call-facts.ts';
import { replyToClock, replyToIdle, statusFor } from './failure-reply.ts';
import type { Hedging } from './hedging.ts';
import { forgetModelFailure } from './model-failures.ts';
import { isTooLarge } from './oversize.ts';
import type { LocalReply } from './reasons.ts';
import { type SendingCall, sendResumeHead } from './request-head.ts';
import { creditRequest, sendRequest } from './request-relay.ts';
import type { RetryWait } from './retrying.ts';
import { settleAttempt } from './settlement.ts';
import { resumeValue, withoutRun } from './stream-names.ts';
import type { StreamResume } from './stream-resume.ts';
import { NOTHING_USED, settleBudgets } from './task-budget.ts';

/** The call that has the attempts. */
type AttemptedCall = RelayedCall &
  SendingCall &
  CallWith<'attempt' | 'task', 'readTask'> & {
    /** The endpoint has no free stream. Returns whether the attempt may move to an endpoint that has one. */
    mayMove(attempt: Attempt): boolean;
    /** The attempt failed before anything was sent downstream, or ended the call. */
    onFailure(attempt: Attempt, failure: AttemptFailure): void;
    /** The head of the rest of the stream arrived; undefined: an answer without the rest. */
    onResumeAnswer(attempt: Attempt, head: HeaderList | undefined): void;
    onResumeRefused(attempt: Attempt): void;
  };

/**
 * An admitted call has attempts, one after another or, with hedging, beside each other. Other files read these fields; only
 * these methods write them.
 */
export class CallAttempts implements AttemptOwner {
  /** The running attempt, or the one that ended last. */
  current: Attempt | undefined = undefined;
  count = 0;
  /** How many attempts followed one that was provably never processed. */
  transparentRetries = 0;
  /** Back-offs since the last pushback. */
  backoffStep = 0;
  /** The endpoint may have processed an earlier attempt. */
  unknownBefore = false;
  severalEndpointsFailed = false;
  /** The answer for the caller if no other attempt follows. */
  lastFailure: LocalReply | undefined = undefined;
  /** The running back-off. */
  retryWait: RetryWait | undefined = undefined;
  /** The attempt that lost the call's stream last: if the stream can't be resumed, its verdict stands (`resuming.ts`). */
  cut: Attempt | undefined = undefined;
  /** The attempts beside `current`, where hedging is on. */
  hedging: Hedging | undefined = undefined;

  private readonly call: AttemptedCall;

  constructor(call: AttemptedCall) {
    this.call = call;
  }

  begin(endpoint: Endpoint, nowMs: number): Attempt {
    this.call.progress.attempt();
    this.count++;
    const before = this.current;
    const attempt = new Attempt(this, endpoint, this.count, nowMs);
    if (before?.endpoint === endpoint && !before.unprocessed) attempt.follow(before);
    this.current = attempt;
    return attempt;
  }

  /** An attempt asks for the rest of the call's stream. */
  resume(resume: StreamResume, nowMs: number): Attempt {
    this.count++;
    this.current = new Attempt(this, resume.endpoint, this.count, nowMs, resume);
    return this.current;
  }

  /** The attempt has lost the call's stream. */
  lose(attempt: Attempt): void {
    this.cut = attempt;
  }

  /** Allows the call several attempts at a time. */
  hedgeBy(hedging: Hedging | undefined): void {
    this.hedging = hedging;
  }

  /** This attempt answered first; the others end. */
  choose(attempt: Attempt): void {
    this.current = attempt;
  }

  /** One of several running attempts failed; this one continues. */
  goOnWith(attempt: Attempt): void {
    this.severalEndpointsFailed = true;
    this.current = attempt;
  }

  /** An attempt failed, and the next one goes to another endpoint. */
  changeEndpoint(): void {
    this.severalEndpointsFailed = true;
  }

  /** An attempt was provably never processed, and another follows at once. */
  countTransparent(): void {
    this.transparentRetries++;
  }

  /** Notes whether the app may have run the failed attempt. */
  noteOutcome(attempt: Attempt): void {
    this.unknownBefore ||= outcomeUnknown(attempt);
  }

  fail(answer: LocalReply): void {
    this.lastFailure = answer;
  }

  wait(wait: RetryWait, backoffStep: number): void {
    this.retryWait = wait;
    this.backoffStep = backoffStep;
  }

  /** The back-off is over. */
  endWait(): void {
    this.retryWait = undefined;
  }

  // --- What attempts report --------------------------------------------------------------------------------

  get info(): AttemptOwner['info'] {
    return this.call.info;
  }

  get requestHeadBytes(): number {
    return this.call.requestHeadBytes;
  }

  get isNameless(): boolean {
    return this.call.task?.taskId === '';
  }

  mayMove(attempt: Attempt): boolean {
    return this.call.mayMove(attempt);
  }

  onStreamOpen(attempt: Attempt, stream: Stream): void {
    const { resume } = attempt;
    if (resume !== undefined) {
      sendResumeHead(this.call, stream, resumeValue(resume.name, resume.fromByte));
      return;
    }
    sendRequest(this.call, attempt, stream);
    attempt.first ??= stream;
  }

  onRequestBytesSent(attempt: Attempt): void {
    creditRequest(this.call, attempt);
  }

  /** An interim response does not commit the call: another attempt may follow. */
  onInterim(attempt: Attempt, list: HeaderList): void {
    const { response, stream } = this.call;
    if (attempt === this.current && attempt.resume === undefined && !isTooLarge(list, stream.connection))
      response.sendInterim(list);
  }

  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const { call } = this;
    if (attempt.resume !== undefined) {
      call.onResumeAnswer(attempt, list);
      return;
    }
    const run = call.info.kind === 'task_stream' ? list.get(RUN_HEADER) : undefined;
    if (run === undefined) relayHead(call, attempt, list, head);
    else {
      attempt.run = run;
      const own = withoutRun(list);
      relayHead(call, attempt, own, headOf(own, 'response'));
    }
  }

  onResumeRefused(attempt: Attempt): void {
    this.call.onResumeRefused(attempt);
  }

  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    return relayData(this.call, attempt, buffer, start, end, endStream);
  }

  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    if (attempt.resume?.isResumed === false) this.call.onResumeAnswer(attempt, undefined);
    else relayEnd(this.call, attempt, list, head);
  }

  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void {
    const { call } = this;
    attempt.unprocessed = failure.unprocessed;
    if (failure.unprocessed) settleBudgets(call, NOTHING_USED);
    forgetModelFailure(call);
    const code = 'code' in failure ? failure.code : 0;
    settleAttempt(call, attempt, endKindOf(failure), statusFor(call, attempt, failure), code, undefined);
    call.onFailure(attempt, failure);
  }

  onAttemptClock(attempt: Attempt, clock: AttemptClockName | 'idle'): void {
    const { call } = this;
    settleAttempt(call, attempt, clock, Status.DEADLINE_EXCEEDED, 0, undefined);
    const again = call.retries(attempt);
    // Cancelling would make the task run a second time: the next attempt joins it instead.
    const comesBack = this.retryWait?.sameEndpoint === true;
    attempt.letGo(comesBack ? ATTEMPT_COMES_BACK : ErrorCode.CANCEL);
    if (!again) call.answer(clock === 'idle' ? replyToIdle(call) : replyToClock(attempt, clock));
  }
}
