/** One downstream RPC: handles the caller's stream and owns the attempts. */
import { ATTEMPT_COMES_BACK } from '../grpc/sidecar-settings.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import type { Leaving, TaskSubscriber } from '../task/task-store.ts';
import { type Attempt, type AttemptFailure, type AttemptOwner, endKindOf } from './attempt.ts';
import type { AttemptClockName } from './attempt-clock.ts';
import { countCall, endActive } from './call-accounting.ts';
import type { CallDriver } from './call-driver.ts';
import type { AdmittedFacts, PlacedFacts } from './call-facts.ts';
import { CallState } from './call-state.ts';
import { endTrace, readTracedTask } from './call-tracing.ts';
import { endForDeadline, endForSilence, lingerAfterAnswer } from './early-end.ts';
import { endFields, ownFields, ownHead } from './end-fields.ts';
import { replyToClock, replyToIdle, statusFor } from './failure-reply.ts';
import { inTime } from './late-pushback.ts';
import { NO_FIELDS } from './local-reply.ts';
import { forgetModelFailure, noteModelFailure, withModelFailure } from './model-failures.ts';
import { notGrpc, withoutStatus } from './no-answer.ts';
import { endsBySize, isTooLarge, messageTooLarge, replyToOversizeRequest, statusAlone } from './oversize.ts';
import { endOwnership } from './ownership.ts';
import { type LocalReply, reply } from './reasons.ts';
import { sendRequestHead, sendRequestTrailers } from './request-head.ts';
import { type ResponseInfo, responseInfo } from './response-info.ts';
import { holdsHead } from './retrying.ts';
import { awaitAnswer, giveUp, settleAttempt, settleCircuit, settleFirstMessage } from './settlement.ts';
import { settleTokens, usedTokens } from './task-budget.ts';
import { callerLeft, type TaskFollower } from './task-follower.ts';

/** A call that its caller spoils within this time counts as spoiled at once (`Connection.waste`). */
const AT_ONCE_MS = 20;

/** A call that is assigned to a cluster. */
export type PlacedCall = Call & PlacedFacts;
/** A call that its circuit admitted: from here on it has attempts. */
export type AdmittedCall = Call & AdmittedFacts;

/**
 * One downstream RPC, from its first HEADERS frame to its last frame. It handles the downstream stream and owns the
 * attempts; `pipeline.ts` decides what to do next.
 *
 *     begun ──▶ (awaiting the first message) ──▶ attempting ──response head──▶ answering ──▶ done
 *       │                    │                       │  ▲                        │
 *       └────────────────────┴── answered by us ─────┤  └── another attempt       │ cut, deadline, cancelled
 *                                                    └──────────────▶ done ◀──────┘
 */
export class Call extends CallState<CallDriver<Call>> implements StreamHandler, AttemptOwner, TaskSubscriber {
  override onTimeout(nowMs: number): void {
    endForDeadline(this, nowMs);
  }

  // --- The downstream stream -------------------------------------------------------------------------------

  onHeaders(_stream: Stream, list: HeaderList, _head: MessageHead): void {
    if (this.progress.isDone) return;
    if (list.oversize) {
      this.answer(replyToOversizeRequest(this, list, 'trailers'));
      return;
    }
    this.request.trailers = list;
    this.request.ended = true;
    this.clock.onMovement();
    if (this.progress.isAwaitingMessage) this.driver.onFirstMessage(this);
    else if (this.attempt !== undefined) sendRequestTrailers(this, this.attempt);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.progress.isDone) {
      if (endStream && this.progress.isLingering) this.clock.stop();
      return end - start;
    }
    const { request, settings } = this;
    const { framing } = request;
    if (framing !== undefined && !framing.advance(buffer, start, end, settings.maxMessageBytes)) {
      messageTooLarge(this, 'request', framing.messageBytes);
      return end - start;
    }
    request.ended = endStream;
    this.clock.onMovement();
    const { attempt } = this;
    if (attempt?.stream === undefined || attempt.ended) {
      request.add(buffer, start, end);
      if (this.progress.isAwaitingMessage) this.driver.onFirstMessage(this);
      // Bytes kept for a later attempt count against the stream's window: return no credit yet.
      return 0;
    }
    if (!this.progress.isAnswering)
      request.keep(buffer, start, end, this.admitted.cluster.settings.retry.bufferBytes);
    if (this.trace && this.task === undefined) readTracedTask(this);
    attempt.send(buffer, start, end, endStream);
    if (endStream) awaitAnswer(this.admitted, attempt);
    return request.credit(attempt);
  }

  onDataSent(stream: Stream, bytes: number): void {
    const { follower, run } = this.role;
    if (follower !== undefined) follower.pump();
    else this.attempt?.consume(run?.owed(bytes) ?? bytes);
    this.clock.onMovement();
    if (this.progress.isDone && stream.queue === undefined) {
      this.clock.stop();
      lingerAfterAnswer(this);
    }
  }

  /** The caller left: cancels the attempt at once, unless others wait for the task or the caller may come back for it. */
  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (this.progress.isDone) {
      this.clock.stop();
      return;
    }
    const leaving = callerLeft(this, failure);
    if (leaving === 'time_is_up') this.context.stats.reject('deadline');
    if (this.role.run?.outlives(leaving) === true) return;
    this.role.follower?.leave(leaving);
    if (failure.kind === 'protocol') this.context.stats.reject('bad_request');
    if (failure.kind === 'stalled') this.context.stats.reject('overloaded');
    this.endUnheard(leaving, failure.kind === 'stalled' ? Status.RESOURCE_EXHAUSTED : Status.CANCELLED);
  }

  /** No caller waits for the task that this call runs. */
  abandon(): void {
    if (this.progress.isDone) return;
    this.endUnheard(
      this.clock.callersTimeIsUp(this.context.clock()) ? 'time_is_up' : 'cancelled',
      Status.CANCELLED,
    );
  }

  /**
   * Ends the call without an answer, because the caller has left. At the caller's deadline, the deadline ended the
   * call.
   */
  private endUnheard(leaving: Leaving, otherwise: StatusCode): void {
    const late = leaving === 'time_is_up';
    const status = late ? Status.DEADLINE_EXCEEDED : Status.CANCELLED;
    giveUp(this, late ? 'deadline' : 'cancelled', status);
    if (late) this.progress.explain('deadline');
    this.finish(late ? status : otherwise);
  }

  onOwnerGone(late: boolean): void {
    if (late) {
      this.onTimeout(this.context.clock());
      return;
    }
    giveUp(this, 'cancelled', Status.CANCELLED);
    this.answer(reply('caller_gone', 'the call that this one was made for has been given up by its caller'));
  }

  /** Another call runs, or has run, this call's task. */
  follow(follower: TaskFollower): void {
    this.role.follow(follower);
    this.progress.follow();
    this.response.observer = undefined;
    this.request.drop();
    this.limitTime(this.settings.timeLimits);
    // The call that runs the task has the clock for the app's silence.
    this.clock.stopIdle();
  }

  runAgain(): void {
    this.progress.stopFollowing();
    this.driver.onRunAgain(this);
  }

  onAdmitted(): void {
    this.driver.onAdmitted(this as PlacedCall);
  }

  onTaskProgress(): void {
    this.role.follower?.pump();
  }

  /** The other call's answer was sent completely, or waits for the caller to read. */
  completeFollowing(status: StatusCode): void {
    this.finish(status);
    lingerAfterAnswer(this);
  }

  // --- The attempt -----------------------------------------------------------------------------------------

  /** The call as an attempt knows it: it has no attempt before it is admitted. */
  private get admitted(): AdmittedCall {
    return this as AdmittedCall;
  }

  onStreamOpen(attempt: Attempt, stream: Stream): void {
    sendRequestHead(this, stream, this.request.headOnly);
    if (this.trace && this.task === undefined) readTracedTask(this);
    this.request.sendTo(attempt, this.admitted.cluster.settings.retry.bufferBytes);
    if (this.request.ended) awaitAnswer(this.admitted, attempt);
    this.onRequestBytesSent(attempt);
    sendRequestTrailers(this, attempt);
  }

  onRequestBytesSent(attempt: Attempt): void {
    const bytes = this.request.credit(attempt);
    if (bytes <= 0) return;
    this.clock.onMovement();
    this.stream.connection.consume(this.stream, bytes);
  }

  /** An interim response does not commit the call: another attempt may follow. */
  onInterim(attempt: Attempt, list: HeaderList): void {
    if (attempt === this.attempt && !isTooLarge(list, this.stream.connection))
      this.response.sendInterim(list);
  }

  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    this.clock.onMovement();
    const { grpc } = this.info;
    if (grpc && !responseInfo(list, head).grpc) {
      notGrpc(this.admitted, attempt, list, head);
      return;
    }
    // gRPC clients ignore it, and on HEAD it gives the length of the response to GET.
    if (grpc || this.head.method === 'HEAD') attempt.stream!.expectedBytes = -1;
    if (
      isTooLarge(list, this.stream.connection) &&
      endsBySize(this.admitted, attempt, 'initial metadata', list)
    )
      return;
    const own = ownHead(this, list, head);
    if (holdsHead(this.admitted, attempt)) attempt.heldHead = own;
    else this.commit(attempt, own);
  }

  /** Commits the call to this attempt: something goes downstream. */
  private commit(attempt: Attempt, head: HeaderList): void {
    attempt.heldHead = undefined;
    this.tries.hedging?.choose(attempt);
    this.response.sendHead(head);
    this.request.drop();
  }

  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const { response } = this;
    const { framing } = response;
    // Servers may flush a head, or end without a status, by an empty DATA frame: no message has begun.
    if (end === start && framing !== undefined) {
      if (endStream) withoutStatus(this.admitted, attempt);
      return 0;
    }
    if (!attempt.answered) settleFirstMessage(this.admitted, attempt, this.context.clock());
    this.clock.onMovement();
    if (attempt.heldHead !== undefined) this.commit(attempt, attempt.heldHead);
    if (framing === undefined) {
      const sent = response.sendData(buffer, start, end, endStream);
      if (endStream) this.complete(attempt, Status.OK, undefined);
      return sent;
    }
    if (!framing.advance(buffer, start, end, this.settings.maxMessageBytes)) {
      messageTooLarge(this, 'response', framing.messageBytes);
      return end - start;
    }
    attempt.scanner?.feed(buffer, start, end);
    const sent = response.sendData(buffer, start, end, false);
    if (endStream) withoutStatus(this.admitted, attempt);
    return sent;
  }

  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const { response } = this;
    const tooLarge = isTooLarge(list, this.stream.connection);
    if (!this.info.grpc) {
      if (tooLarge && !this.progress.isAnswering) {
        endsBySize(this.admitted, attempt, 'initial metadata', list);
        return;
      }
      // HTTP trailers may be dropped (RFC 9110 §6.5.1).
      response.sendEnd(tooLarge ? NO_FIELDS : list, Status.OK, undefined);
      this.complete(attempt, Status.OK, undefined);
      return;
    }
    const info = responseInfo(list, head);
    const { status } = info;
    if (status === -1) {
      if (info.grpc) withoutStatus(this.admitted, attempt);
      else notGrpc(this.admitted, attempt, list, head);
      return;
    }
    settleAttempt(this.admitted, attempt, 'status', status, 0, info);
    if (this.lineage.owner !== undefined) settleTokens(this, usedTokens(list));
    if (status !== Status.OK || attempt.taskFailure !== 'none') noteModelFailure(this, list);
    if (status !== Status.OK && !this.progress.isAnswering && this.retries(attempt)) {
      attempt.stopSending();
      return;
    }
    if (tooLarge && status === Status.OK && endsBySize(this.admitted, attempt, 'trailers', list)) return;
    if (attempt.heldHead !== undefined) this.commit(attempt, attempt.heldHead);
    else this.tries.hedging?.choose(attempt);
    const own = ownFields(this, attempt, list, info);
    const alone = tooLarge ? statusAlone(list, status, head.kind === 'response') : own;
    if (tooLarge) this.progress.explain('headers_too_large');
    const extra = endFields(this, attempt, status, info);
    response.sendEnd(list.oversize ? alone : own, status, extra, alone);
    this.complete(attempt, status, info);
  }

  /** The response ended normally: the caller has all of it, or the rest is queued. */
  private complete(attempt: Attempt, status: StatusCode, info: ResponseInfo | undefined): void {
    settleAttempt(this.admitted, attempt, 'status', status, 0, info);
    attempt.stopSending();
    this.completeFollowing(status);
  }

  mayMove(attempt: Attempt): boolean {
    return this.driver.mayMove(this.admitted, attempt);
  }

  retries(attempt: Attempt): boolean {
    return this.driver.retries(this.admitted, attempt);
  }

  onRetryDue(failed: Attempt, sameEndpoint: boolean): void {
    this.driver.onRetryDue(this.admitted, failed, sameEndpoint);
  }

  hedge(running: readonly Attempt[], nowMs: number): boolean {
    return this.driver.hedge(this.admitted, running, nowMs);
  }

  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void {
    attempt.unprocessed = failure.unprocessed;
    if (failure.unprocessed) settleTokens(this, 0);
    forgetModelFailure(this);
    const code = 'code' in failure ? failure.code : 0;
    const status = statusFor(this, attempt, failure);
    settleAttempt(this.admitted, attempt, endKindOf(failure), status, code, undefined);
    this.driver.onAttemptFailed(this.admitted, attempt, failure);
  }

  onAttemptClock(attempt: Attempt, clock: AttemptClockName | 'idle'): void {
    settleAttempt(this.admitted, attempt, clock, Status.DEADLINE_EXCEEDED, 0, undefined);
    const again = this.retries(attempt);
    // Cancelling would make the task run a second time: the next attempt joins it instead.
    const comesBack = this.tries.retryWait?.sameEndpoint === true;
    attempt.letGo(comesBack ? ATTEMPT_COMES_BACK : ErrorCode.CANCEL);
    if (!again) this.answer(clock === 'idle' ? replyToIdle(this) : replyToClock(attempt, clock));
  }

  onIdle(): void {
    endForSilence(this);
  }

  // --- The end ---------------------------------------------------------------------------------------------

  /** Ends the call with an answer of the sidecar's own. */
  answer(reply: LocalReply): void {
    if (this.progress.isDone) return;
    const local = inTime(this, reply);
    giveUp(this, 'own_limit', local.status);
    this.stream.unserved = true;
    this.response.sendLocal(withModelFailure(this, local), this.info.grpc, this.head.method);
    if (this.status === -1) {
      this.progress.explain(local.reason);
      this.context.stats.reject(local.reason);
    }
    this.finish(local.status);
    if (reply.byCaller === true)
      this.stream.connection.waste(this.stream, this.context.clock() - this.startedAtMs < AT_ONCE_MS);
  }

  private finish(status: StatusCode): void {
    const { context, tries } = this;
    const isCounted = this.status !== -1;
    this.progress.end(status);
    // Bytes that wait for a slow reader keep their deadline; see onTimeout.
    if (this.stream.closed || this.stream.queue === undefined) this.clock.stop();
    this.request.drop();
    this.clock.stopIdle();
    tries.retryWait?.cancel();
    this.role.follower?.leave('cancelled');
    this.response.close(status);
    endOwnership(this);
    settleTokens(this, undefined);
    tries.hedging?.stop();
    context.admission?.leave(this, status, context.clock());
    settleCircuit(this);
    endActive(this);
    if (context.tracer !== undefined) endTrace(this);
    if (!isCounted) countCall(this, status);
    this.response.observer?.onEnd(status, this.lineage.modelTokens, this.response.wanted);
    context.observer?.onCallEnd(this);
  }
}
