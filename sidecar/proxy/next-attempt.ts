/** Decides what follows a failed attempt: another one at once, one after a back-off, or the end of the call. */
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import { timeLeftMs } from '../policy/deadline.ts';
import type { GiveUpReason } from '../policy/retry.ts';
import { mayRetryTransparently } from '../policy/transparent-retry.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptFailure } from './attempt-failure.ts';
import type { AttemptStarter } from './attempt-starter.ts';
import type { AdmittedCall } from './call.ts';
import { traceRetry } from './call-tracing.ts';
import type { ProxyContext } from './context.ts';
import { isOverflow, lastAnswer, replyToFailure } from './failure-reply.ts';
import { forbidOwnersRetries, forbidRetries } from './ownership.ts';
import { Resuming } from './resuming.ts';
import { RetryWait, retryCallOf } from './retrying.ts';

/** Applies the retry policies (`policy/transparent-retry.ts`, `policy/retry.ts`) to the calls of one listener. */
export class NextAttempt {
  private readonly context: ProxyContext;
  private readonly starter: AttemptStarter;
  /** Goes on with streams whose connection was lost after the answer had begun. */
  readonly resuming: Resuming;

  constructor(context: ProxyContext, starter: AttemptStarter) {
    this.context = context;
    this.starter = starter;
    this.resuming = new Resuming(context, starter);
  }

  /** Whether a call whose attempt was provably not processed may be sent again at once. */
  private mayGoOn(call: AdmittedCall, limitLowered: boolean, nowMs: number): boolean {
    return mayRetryTransparently({
      unprocessed: !mayRunElsewhere(call),
      responseStarted: call.progress.isAnswering,
      requestWhole: call.request.whole,
      attempts: call.attempts,
      endpoints: call.cluster.endpoints.length,
      timeLeftMs: timeLeftMs(call.clock.deadlineMs, nowMs),
      limitLowered,
    });
  }

  mayMove(call: AdmittedCall, attempt: Attempt): boolean {
    if (call.cluster.roomyBeside(attempt.endpoint, undefined) === undefined) return false;
    return this.mayGoOn(call, false, this.context.clock());
  }

  onAttemptFailed(call: AdmittedCall, attempt: Attempt, failure: AttemptFailure): void {
    const cluster = call.cluster;
    const nowMs = this.context.clock();
    if (call.progress.isAnswering && this.resuming.onLost(call, attempt, failure)) return;
    if (call.tries.hedging?.dropped(attempt, nowMs) === true) return;
    const retry =
      failure.unprocessed && !isOverflow(failure) && this.mayGoOn(call, attempt.limitLowered, nowMs);
    const endpoint = retry ? this.starter.pick(call, attempt.endpoint, nowMs) : undefined;
    if (endpoint !== undefined) {
      cluster.count(cluster.retries, 'retried');
      call.tries.countTransparent();
      this.starter.start(call, endpoint, nowMs);
    } else {
      call.tries.fail(replyToFailure(call, attempt, failure));
      // A queue that is full now stays full for the next attempt.
      if (isOverflow(failure) || !this.retries(call, attempt)) call.answer(lastAnswer(call));
    }
  }

  /** Asks the retry policy. A refusal is counted by its reason, and reported to the hops above when it is final. */
  retries(call: AdmittedCall, attempt: Attempt): boolean {
    if (call.progress.isAnswering) return false;
    const { context } = this;
    const nowMs = context.clock();
    const cluster = call.cluster;
    const policy = cluster.policies.retry;
    if (
      call.tries.hedging !== undefined &&
      policy.mayFollow(attempt) &&
      call.tries.hedging.dropped(attempt, nowMs)
    )
      return true;
    call.tries.noteOutcome(attempt);
    const retryCall = retryCallOf(call, attempt, nowMs);
    // No endpoint is reachable, and a wait would only cost the caller time.
    if (retryCall.otherEndpoints === 0 && !retryCall.sameReachable) {
      forbidOwnersRetries(call);
      return false;
    }
    const decision = policy.next(attempt, retryCall, nowMs, context.random());
    if (call.trace) traceRetry(call, decision);
    if (!decision.again) {
      forbidRetries(call, decision.notAgain);
      if (COUNTED_REASONS[decision.reason]) cluster.count(cluster.retries, decision.reason);
      return false;
    }
    const wait = new RetryWait(call, attempt, decision.target === 'same');
    call.tries.wait(wait, decision.backoffStep);
    wait.start(decision.afterMs);
    return true;
  }

  /** The back-off is over. */
  onRetryDue(call: AdmittedCall, failed: Attempt, sameEndpoint: boolean): void {
    if (call.progress.isAnswering) {
      this.resuming.onDue(call);
      return;
    }
    const nowMs = this.context.clock();
    const same = sameEndpoint && !failed.endpoint.removed ? failed.endpoint : undefined;
    // A task without an id is known to that endpoint alone, and no longer than it waits for its caller.
    const nowhere =
      sameEndpoint && call.tries.isNameless && (same === undefined || !isAwaited(failed, nowMs));
    const endpoint = nowhere
      ? undefined
      : (same ??
        this.starter.pick(call, failed.endpoint, nowMs) ??
        this.starter.pick(call, undefined, nowMs));
    if (endpoint === undefined) {
      call.cluster.policies.budget.release();
      this.starter.nobodyThere(call);
      return;
    }
    const cluster = call.cluster;
    cluster.count(cluster.retries, 'retried');
    if (endpoint !== failed.endpoint) call.tries.changeEndpoint();
    this.starter.start(call, endpoint, nowMs, true);
  }
}

/** Whether the run that lost its connection still waits for its caller. */
function isAwaited({ elapsedMs, first, lostAtMs, startedAtMs }: Attempt, nowMs: number): boolean {
  const lost = lostAtMs === 0 ? startedAtMs + elapsedMs : lostAtMs;
  return first !== undefined && nowMs - lost < streamsResumeMs(first.connection.peer);
}

/** Whether an earlier attempt may be running the task. Only its own endpoint may get the call then, or it would run twice. */
function mayRunElsewhere(call: AdmittedCall): boolean {
  return call.tries.unknownBefore && !call.cluster.policies.retry.isIdempotent(call.info.method);
}

/** The reasons for which `outrigger_retries_total` counts a retry that was not made. */
const COUNTED_REASONS: Readonly<Record<GiveUpReason, boolean>> = {
  budget_exhausted: true,
  not_safe: true,
  deadline: true,
  committed: false,
  retries_off: false,
  ended: false,
  code: false,
  pushback: false,
  attempts_exhausted: false,
  request_dropped: false,
  circuit: false,
};
