/** One run of a task from the bus: from its lease to its result. */
import { Status } from '../../grpc/status.ts';
import { isUnaryPath } from '../../task/task-message.ts';
import { FencedError, LogUnavailableError } from '../log/log-errors.ts';
import { runsAlone } from '../log/lost-runs.ts';
import type { TaskLease } from '../log/task-log.ts';
import { encodeResult } from '../message/payload.ts';
import { MissingKeyError } from '../message/sealer.ts';
import { afterAnswer } from './after-answer.ts';
import { AgentCall } from './agent-call.ts';
import type { IntakeFailure } from './answer-intake.ts';
import type { InnerEnd } from './inner-call.ts';
import { type LeaseEnd, LeaseKeeper } from './lease-keeper.ts';
import type { RunContext } from './run-context.ts';
import { UnreadableTaskError } from './run-request.ts';
import { type RunOutcome, RunSteps } from './run-steps.ts';

/** The reasons that end the call before its answer is complete. */
type Stop = LeaseEnd | IntakeFailure | { readonly failed: unknown };

/** A watcher's timer may find the deadline reached a moment early. */
const DEADLINE_EARLY_MS = 100;

const REFUSALS = {
  too_large: {
    status: Status.RESOURCE_EXHAUSTED,
    message: (limit: number) => `the answer is larger than bus.results.max_answer_bytes (${limit})`,
  },
  unreadable: {
    status: Status.INTERNAL,
    message: () =>
      'the agent compressed its answer although nobody offered to read that, and it is unreadable',
  },
} as const;

export class BusRun {
  private readonly context: RunContext;
  private readonly lease: TaskLease;
  private readonly keeper: LeaseKeeper;
  private readonly steps: RunSteps;
  private call: AgentCall | undefined = undefined;
  private stopped: Stop | undefined = undefined;
  private readonly over = new AbortController();

  constructor(context: RunContext, lease: TaskLease) {
    const { log, wheel, clock, settings } = context;
    this.context = context;
    this.lease = lease;
    this.keeper = new LeaseKeeper(lease, {
      leaseMs: settings.leaseMs,
      heldForMs: Math.max(0, log.nowMs() - lease.record.startedAtMs),
      wheel,
      clock,
      onEnd: (end) => this.stop(end),
    });
    this.steps = new RunSteps(context, lease, this.keeper);
  }

  /** Never rejects. */
  async run(): Promise<RunOutcome> {
    const { events } = this.context;
    const { record } = this.lease;
    this.keeper.start();
    try {
      return await this.passGate();
    } catch (error) {
      if (error instanceof UnreadableTaskError) return await this.steps.bury(error.message);
      if (error instanceof MissingKeyError) return await this.steps.leaveToOthers(error);
      if (error instanceof FencedError) events.onFenced(record, error.because);
      else if (error instanceof LogUnavailableError && !this.context.isClosing)
        // Its lease runs out.
        events.onLost(record, `what it had to say could not be stored: ${error.message}`);
      else events.onProblem(error);
      return 'ended';
    } finally {
      this.keeper.stop();
    }
  }

  private async passGate(): Promise<RunOutcome> {
    const { gate, settings } = this.context;
    const { record } = this.lease;
    if (!settings.allows(record.publisher)) {
      const who = record.publisher === '' ? 'a publisher without a name' : record.publisher;
      return await this.steps.settle(
        Status.PERMISSION_DENIED,
        `inbound.tls.allow_identities does not admit tasks of ${who}`,
      );
    }
    const alone = runsAlone(record);
    if (!(await gate.enter(alone))) return await this.steps.giveBack('another task runs alone');
    try {
      // It may have waited for the others to end.
      if (this.stopped !== undefined || this.context.isDraining)
        return await this.steps.giveBack('the sidecar ends');
      await this.steps.store(() => this.lease.begin());
      return await this.execute('');
    } finally {
      gate.leave(alone);
    }
  }

  /** @param edition of a run that must not get the answer of an earlier one */
  private async execute(edition: string): Promise<RunOutcome> {
    const { log, settings } = this.context;
    const { record } = this.lease;
    const leftMs = record.deadlineAtMs - log.nowMs();
    if (leftMs <= 0)
      return await this.steps.settle(
        Status.DEADLINE_EXCEEDED,
        'the deadline passed before the task could begin',
      );
    const runMs = settings.runTimeoutMs === 0 ? Number.POSITIVE_INFINITY : settings.runTimeoutMs;
    const { context, lease, steps } = this;
    const over = this.over.signal;
    const onStop = (stop: Stop): void => this.stop(stop);
    const call = await AgentCall.begin({ context, lease, steps, over, edition, runMs, onStop });
    try {
      return await this.follow(call, runMs <= leftMs);
    } finally {
      call.release();
    }
  }

  private async follow(call: AgentCall, isRunTimeout: boolean): Promise<RunOutcome> {
    const { intake } = call;
    this.call = call;
    // The lease may have ended while the task waited to begin.
    if (this.stopped !== undefined) call.cancel();
    this.context.events.onDelivered(this.lease.record);
    const end = await call.ended;
    this.call = undefined;
    if (end.kind === 'answered' && end.status === Status.OK && !intake.isWhole) this.stopped ??= 'unreadable';
    if (this.stopped === undefined) await intake.finish();
    else intake.stop();
    if (this.stopped !== undefined) return await this.afterStop(this.stopped);
    return await this.afterEnd(end, call, isRunTimeout);
  }

  /** The first reason counts. */
  private stop(stop: Stop): void {
    this.stopped ??= stop;
    this.over.abort();
    this.call?.cancel();
  }

  private async afterStop(stop: Stop): Promise<RunOutcome> {
    const { events, settings } = this.context;
    if (typeof stop === 'object') throw stop.failed;
    if (stop === 'too_large' || stop === 'unreadable') {
      const { status, message } = REFUSALS[stop];
      return await this.steps.settle(status, message(settings.maxAnswerBytes));
    }
    events.onFenced(this.lease.record, stop);
    return 'ended';
  }

  private async afterEnd(end: InnerEnd, call: AgentCall, isRunTimeout: boolean): Promise<RunOutcome> {
    const { intake, path } = call;
    const { context, lease } = this;
    const because = end.kind === 'answered' ? end.statusMessage : end.because;
    const next = afterAnswer(end, context.isDraining);
    if (next === 'lose') return await this.steps.lose(because);
    if (next === 'run_anew') return await this.execute(`.${lease.record.run}`);
    if (next === 'give_back' || end.kind !== 'answered') {
      await this.steps.giveBack(because);
      return context.isDraining ? 'ended' : 'turned_away';
    }
    if (!isRunTimeout && (await this.hasMoreTime(end.status)))
      return await this.steps.giveBack('its deadline was moved while it ran');
    const { status, head, trailers } = end;
    let { statusMessage } = end;
    if (isRunTimeout && end.reason === 'deadline')
      statusMessage = `the run took longer than bus.consume.run_timeout (${context.settings.runTimeoutMs} ms)`;
    const answer = status === Status.OK ? intake.answer : undefined;
    if (status === Status.OK && isUnaryPath(path) && answer === undefined)
      return await this.steps.settle(
        Status.INTERNAL,
        'the agent answered a unary call with no message, or several',
      );
    return await this.steps.settleWith(status, encodeResult({ statusMessage, head, trailers, answer }));
  }

  /** A caller that has joined waits for longer than the agent, or its sidecar, could know: another run has that time. */
  private async hasMoreTime(status: number): Promise<boolean> {
    const { log } = this.context;
    const { key, deadlineAtMs } = this.lease.record;
    if (status !== Status.DEADLINE_EXCEEDED || log.nowMs() < deadlineAtMs - DEADLINE_EARLY_MS) return false;
    let nowAtMs = deadlineAtMs;
    await this.steps.store(async () => {
      nowAtMs = (await log.get(key))?.deadlineAtMs ?? deadlineAtMs;
    });
    return nowAtMs > deadlineAtMs;
  }
}
