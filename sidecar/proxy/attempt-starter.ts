/** The inner layers of the pipeline: picks an endpoint for a call, and starts an attempt there. */
import type { CallKey } from '../cluster/balancer/balancer.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { isTimeUp, timeLeftMs } from '../policy/deadline.ts';
import { OutcomeScanner } from '../task/outcome-scanner.ts';
import { PROCESS_TASK_PATH } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import { AttemptClock } from './attempt-clock.ts';
import type { AdmittedCall } from './call.ts';
import type { ProxyContext } from './context.ts';
import { lastAnswer, noEndpoint, OVERLOADED_PUSHBACK_MS, tooLittleTime } from './failure-reply.ts';
import { hedgingOf } from './hedging.ts';
import { forbidOwnersRetries } from './ownership.ts';
import { reply } from './reasons.ts';
import { fillKey } from './retrying.ts';
import type { StreamResume } from './stream-resume.ts';

/**
 * Starts the attempts of admitted calls. The first one waits for the endpoints of a new cluster; `next-attempt.ts` decides
 * on those that follow a failure, and `hedging.ts` on those beside a slow one.
 */
export class AttemptStarter {
  private readonly context: ProxyContext;
  private readonly key: CallKey<Endpoint> = { hash: 0, avoid: undefined };

  constructor(context: ProxyContext) {
    this.context = context;
  }

  /** Picks an endpoint for the call's first attempt. */
  first(call: AdmittedCall): void {
    const nowMs = this.context.clock();
    const leftMs = timeLeftMs(call.clock.deadlineMs, nowMs);
    if (isTimeUp(leftMs)) {
      call.onTimeout(nowMs);
      return;
    }
    const neededMs = call.cluster.policies.hopelessBelowMs(call.info.method, leftMs);
    if (neededMs > 0) {
      call.answer(tooLittleTime(call, neededMs, nowMs));
      return;
    }
    const endpoint = this.pick(call, undefined, nowMs);
    if (endpoint !== undefined) {
      call.tries.hedgeBy(hedgingOf(call));
      this.start(call, endpoint, nowMs);
    } else if (call.cluster.resolving) this.awaitEndpoints(call);
    else this.nobodyThere(call);
  }

  nobodyThere(call: AdmittedCall): void {
    forbidOwnersRetries(call);
    call.answer(call.tries.lastFailure === undefined ? noEndpoint(call) : lastAnswer(call));
  }

  /** Waits for the first look-up of a cluster that a start or a reload has just created. */
  private awaitEndpoints(call: AdmittedCall): void {
    const waits = call.cluster.whenResolved(() => {
      if (!call.progress.isDone) this.first(call);
    });
    if (waits) return;
    const message = `enough calls wait for the endpoints of cluster ${call.cluster.name} (limits.max_pending_calls)`;
    call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
  }

  pick(call: AdmittedCall, avoid: Endpoint | undefined, nowMs: number): Endpoint | undefined {
    return call.cluster.pick(fillKey(this.key, call, avoid), nowMs);
  }

  start(call: AdmittedCall, endpoint: Endpoint, nowMs: number, budgeted = false, hedge = false): void {
    const attempt = call.tries.begin(endpoint, nowMs);
    const { settings } = call.cluster.policies;
    attempt.streaming = call.info.kind !== 'unary';
    attempt.budgeted = budgeted;
    attempt.hedge = hedge;
    if (settings.task.statusIsVerdict && call.info.method === PROCESS_TASK_PATH)
      attempt.scanner = new OutcomeScanner();
    call.tries.hedging?.add(attempt, nowMs);
    const { outliers } = call.cluster;
    outliers.detector.begin(attempt, nowMs);
    outliers.wake(nowMs);
    const { perTryTimeoutMs } = settings.retry;
    if (perTryTimeoutMs > 0 || settings.firstChunkTimeoutMs > 0) {
      attempt.clock = new AttemptClock(attempt, this.context.wheel);
      attempt.clock.start(perTryTimeoutMs, settings.firstChunkTimeoutMs, nowMs);
    }
    call.clock.onMovement();
    attempt.start();
  }

  /** Asks the endpoint that has the run for the rest of its stream. */
  resume(call: AdmittedCall, resume: StreamResume, nowMs: number, budgeted: boolean): void {
    const attempt = call.tries.resume(resume, nowMs);
    attempt.budgeted = budgeted;
    const { outliers } = call.cluster;
    outliers.detector.begin(attempt, nowMs);
    outliers.wake(nowMs);
    call.clock.onMovement();
    attempt.start();
  }

  /** Starts one more attempt, at an endpoint that runs none of this call's. */
  hedge(call: AdmittedCall, running: readonly Attempt[], nowMs: number): boolean {
    const endpoint = this.pick(call, running[0]!.endpoint, nowMs);
    if (endpoint === undefined || running.some((attempt) => attempt.endpoint === endpoint)) return false;
    this.start(call, endpoint, nowMs, true, true);
    return true;
  }
}
