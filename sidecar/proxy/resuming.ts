/** Asks for the rest of a stream whose connection was lost: the outbound side. */
import { RUN_HEADER } from '../grpc/hop-fields.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import { Status } from '../grpc/status.ts';
import { ConnectionError } from '../http2/errors.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import { timeLeftMs } from '../policy/deadline.ts';
import { nextResume, type ResumeOutcome } from '../policy/resume.ts';
import { RETRY_MULTIPLIER } from '../policy/retry.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptFailure } from './attempt-failure.ts';
import type { AttemptStarter } from './attempt-starter.ts';
import type { AdmittedCall } from './call.ts';
import type { ProxyContext } from './context.ts';
import { lastAnswer, replyToFailure } from './failure-reply.ts';
import { RetryWait } from './retrying.ts';
import { settleAttempt } from './settlement.ts';
import { runName } from './stream-names.ts';
import { StreamResume } from './stream-resume.ts';

/**
 * Resumes the streams of tasks. The attempt that was cut is judged as any other; another one asks the same endpoint for the
 * same run from the byte at which the caller's stream stopped (`policy/resume.ts`), and nothing runs again. The caller sees
 * no seam: the head of the rest is checked and dropped, and its bytes follow those before, within a message either.
 */
export class Resuming {
  private readonly context: ProxyContext;
  private readonly starter: AttemptStarter;

  constructor(context: ProxyContext, starter: AttemptStarter) {
    this.context = context;
    this.starter = starter;
  }

  /**
   * An attempt failed after its answer had begun. Returns whether the call has been dealt with: the rest is asked for, or the
   * call is answered.
   */
  onLost(call: AdmittedCall, attempt: Attempt, failure: AttemptFailure): boolean {
    const nowMs = this.context.clock();
    const before = attempt.resume;
    // A loss behind new bytes is another one.
    const goesOn = before !== undefined && (!before.isResumed || call.response.sentBytes === before.fromByte);
    if (goesOn) return this.onNoRest(call, attempt, before, failure, nowMs);
    const resume = this.lossOf(call, attempt, failure, nowMs);
    if (resume === undefined) return false;
    call.tries.lose(attempt);
    call.tries.fail(replyToFailure(call, attempt, failure));
    call.trace?.event('outrigger.stream_lost', nowMs, ['outrigger.stream.byte', resume.fromByte]);
    if (call.response.waitingBytes > call.stream.connection.limits.streamWindowBytes)
      return this.giveUp(call, resume, 'not_read', nowMs);
    return this.next(call, attempt, resume, nowMs);
  }

  /** Undefined where the stream can't be resumed. */
  private lossOf(
    call: AdmittedCall,
    attempt: Attempt,
    failure: AttemptFailure,
    nowMs: number,
  ): StreamResume | undefined {
    const { info, request, response, cluster } = call;
    const { stream } = attempt;
    if (stream === undefined || info.kind !== 'task_stream' || !info.grpc || !request.ended) return undefined;
    if (!cluster.policies.settings.task.deduplicate || !isLoss(failure)) return undefined;
    const lingerMs = streamsResumeMs(stream.connection.peer);
    if (lingerMs === 0) return undefined;
    if (attempt.resume === undefined && attempt.run === '') return undefined;
    const name = attempt.resume?.name ?? runName(attempt.run, stream.id);
    return new StreamResume(attempt, name, response.sentBytes, nowMs, lingerMs);
  }

  /** An attempt to get the rest has failed. */
  private onNoRest(
    call: AdmittedCall,
    attempt: Attempt,
    resume: StreamResume,
    failure: AttemptFailure,
    nowMs: number,
  ): boolean {
    resume.fail(failure.kind !== 'no-connection');
    const unreached = failure.kind === 'no-connection' && failure.reason !== 'headers_too_large';
    if (!unreached && !failure.unprocessed && !isLoss(failure))
      return this.giveUp(call, resume, 'refused', nowMs);
    return this.next(call, attempt, resume, nowMs);
  }

  private next(call: AdmittedCall, attempt: Attempt, resume: StreamResume, nowMs: number): boolean {
    const { cluster } = call;
    const { policies } = cluster;
    const { endpoint } = resume;
    const decision = nextResume(
      {
        gone: endpoint.removed,
        reached: resume.reached,
        tries: resume.tries,
        lostForMs: nowMs - resume.lostAtMs,
        lingerMs: resume.lingerMs,
        timeLeftMs: timeLeftMs(call.clock.deadlineMs, nowMs),
        callsInFlight: cluster.activeCalls,
      },
      { ...policies.settings.retry.backoff, multiplier: RETRY_MULTIPLIER },
      policies.budget,
      nowMs,
      this.context.random(),
    );
    if (!decision.again) return this.giveUp(call, resume, decision.outcome, nowMs);
    if (resume.tries === 0) {
      this.ask(call, resume, nowMs, false);
      return true;
    }
    resume.wait();
    const wait = new RetryWait(call, attempt, true, decision.budgeted);
    call.tries.wait(wait, resume.tries);
    wait.start(decision.afterMs);
    return true;
  }

  private ask(call: AdmittedCall, resume: StreamResume, nowMs: number, budgeted: boolean): void {
    resume.ask();
    call.response.noteStale(call.response.waitingBytes);
    this.starter.resume(call, resume, nowMs, budgeted);
  }

  /** The back-off is over. */
  onDue(call: AdmittedCall): void {
    const resume = call.attempt!.resume!;
    const nowMs = this.context.clock();
    if (!resume.endpoint.removed) {
      this.ask(call, resume, nowMs, resume.reached);
      return;
    }
    if (resume.reached) call.cluster.policies.budget.release();
    this.giveUp(call, resume, 'gone', nowMs);
  }

  /** The head of the rest arrived, or its only header block: then the endpoint does not have the run. */
  onAnswer(call: AdmittedCall, attempt: Attempt, head: HeaderList | undefined): void {
    const resume = attempt.resume!;
    const nowMs = this.context.clock();
    if (head?.get(RUN_HEADER) !== resume.name) {
      this.onRefused(call, attempt);
      return;
    }
    attempt.stream!.expectedBytes = -1;
    resume.accept();
    call.clock.onMovement();
    this.count(call, resume, 'resumed', nowMs);
  }

  /** The endpoint does not have the run, or does not resume streams. This proves nothing about it. */
  onRefused(call: AdmittedCall, attempt: Attempt): void {
    const { resume } = attempt;
    attempt.cancel();
    settleAttempt(call, attempt, 'cancelled', Status.CANCELLED, 0, undefined);
    if (resume === undefined) call.answer(lastAnswer(call));
    else this.giveUp(call, resume, 'refused', this.context.clock());
  }

  /** The caller learns that its stream was cut, and the circuit gets the verdict on the attempt that was. */
  private giveUp(call: AdmittedCall, resume: StreamResume, outcome: ResumeOutcome, nowMs: number): true {
    resume.giveUp();
    this.count(call, resume, outcome, nowMs);
    call.tries.choose(call.tries.cut!);
    call.answer(lastAnswer(call));
    return true;
  }

  private count(call: AdmittedCall, resume: StreamResume, outcome: ResumeOutcome, nowMs: number): void {
    const { cluster, trace } = call;
    cluster.count(cluster.streamsResumed, outcome);
    const name = outcome === 'resumed' ? 'outrigger.stream_resumed' : 'outrigger.stream_not_resumed';
    trace?.event(name, nowMs, [
      'outrigger.stream.byte',
      resume.fromByte,
      'outrigger.stream.outcome',
      outcome,
      'outrigger.stream.after_ms',
      nowMs - resume.lostAtMs,
    ]);
  }
}

/** Whether the connection was lost. One that either side has ended for an error of the other carries no stream on. */
function isLoss({ kind, ...failure }: AttemptFailure): boolean {
  if (kind === 'goaway') return true;
  if (kind !== 'connection' || !('cause' in failure)) return false;
  return failure.cause instanceof ConnectionError && failure.cause.source === 'network';
}
