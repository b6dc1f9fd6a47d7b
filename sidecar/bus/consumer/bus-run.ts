/** One run of a task from the bus: from its lease to its result. */
import type { TimerWheel } from '../../clock/timer-wheel.ts';
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import { Status } from '../../grpc/status.ts';
import { isTaskPath, isUnaryPath } from '../../task/task-message.ts';
import { FencedError, LogSetupError, LogUnavailableError } from '../log/log-errors.ts';
import { runsAlone } from '../log/lost-runs.ts';
import type { TaskLease, TaskLog } from '../log/task-log.ts';
import type { BusMemory } from '../memory/bus-memory.ts';
import { Room } from '../memory/room.ts';
import { withHead } from '../message/chunk-payload.ts';
import { decodeRequest, encodeResult, type Fields, type RequestPayload } from '../message/payload.ts';
import { MissingKeyError, type Sealer } from '../message/sealer.ts';
import { afterAnswer } from './after-answer.ts';
import { AnswerIntake, type IntakeFailure } from './answer-intake.ts';
import type { ConsumerEvents } from './consumer-events.ts';
import type { InnerCall, InnerEnd } from './inner-call.ts';
import type { InnerCalls } from './inner-calls.ts';
import { type LeaseEnd, LeaseKeeper } from './lease-keeper.ts';
import { persist } from './persist.ts';
import type { RunGate } from './run-gate.ts';

/** What runs need to know of their sidecar. */
export interface RunContext {
  readonly log: TaskLog;
  readonly sealer: Sealer;
  readonly memory: BusMemory;
  readonly calls: InnerCalls;
  readonly gate: RunGate;
  readonly events: ConsumerEvents;
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly random: () => number;
  readonly settings: RunSettings;
  /** The sidecar ends: calls that it cuts go back to the log. */
  readonly isDraining: boolean;
  /** The log is about to close: nothing is tried again. */
  readonly isClosing: boolean;
}

export interface RunSettings {
  readonly leaseMs: number;
  /** 0 is no limit. */
  readonly runTimeoutMs: number;
  readonly maxAnswerBytes: number;
  /** Whether tasks of this publisher may run here (`inbound.tls.allow_identities`). */
  allows(publisher: string): boolean;
}

/** How often a request is in memory at once until the agent has it: as it is stored, opened, and on its way. */
const REQUEST_COPIES = 3;

/** How a run ended for the place that it had. `turned_away`: this sidecar can run nothing now; wait before the next one. */
export type RunOutcome = 'ended' | 'turned_away';

/** What ends the call before its answer is complete. */
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
  private call: InnerCall | undefined = undefined;
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
  }

  /** Never rejects. */
  async run(): Promise<RunOutcome> {
    const { events } = this.context;
    const { record } = this.lease;
    this.keeper.start();
    try {
      return await this.passGate();
    } catch (error) {
      if (error instanceof UnreadableTaskError) return await this.bury(error.message);
      if (error instanceof MissingKeyError) return await this.leaveToOthers(error);
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

  private async readRequest(): Promise<RequestPayload> {
    try {
      let payload: Buffer | undefined;
      await this.store(async () => {
        payload = await this.lease.request();
      });
      const request = decodeRequest(this.context.sealer.open(payload!));
      if (isTaskPath(request.path)) return request;
      throw new UnreadableTaskError(`${request.path} is no method that carries a task`);
    } catch (error) {
      if (error instanceof LogSetupError && !(error instanceof MissingKeyError))
        throw new UnreadableTaskError(error.message, error);
      throw error;
    }
  }

  private async passGate(): Promise<RunOutcome> {
    const { gate, settings } = this.context;
    const { record } = this.lease;
    if (!settings.allows(record.publisher)) {
      const who = record.publisher === '' ? 'a publisher without a name' : record.publisher;
      return await this.settle(
        Status.PERMISSION_DENIED,
        `inbound.tls.allow_identities does not admit tasks of ${who}`,
      );
    }
    const alone = runsAlone(record);
    if (!(await gate.enter(alone))) return await this.giveBack('another task runs alone');
    try {
      // It may have waited for the others to end.
      if (this.stopped !== undefined || this.context.isDraining)
        return await this.giveBack('the sidecar ends');
      await this.store(() => this.lease.begin());
      return await this.execute('');
    } finally {
      gate.leave(alone);
    }
  }

  /** @param edition of a run that must not get the answer of an earlier one */
  private async execute(edition: string): Promise<RunOutcome> {
    const { log, events, settings } = this.context;
    const { record } = this.lease;
    const leftMs = record.deadlineAtMs - log.nowMs();
    if (leftMs <= 0)
      return await this.settle(Status.DEADLINE_EXCEEDED, 'the deadline passed before the task could begin');
    const runMs = settings.runTimeoutMs === 0 ? Number.POSITIVE_INFINITY : settings.runTimeoutMs;
    const { call, path } = await this.begin(edition, runMs);
    this.call = call;
    // The lease may have ended while the task waited to begin.
    if (this.stopped !== undefined) call.cancel();
    const intake = this.intakeOf(call, isUnaryPath(path));
    events.onDelivered(record);
    const end = await call.ended;
    this.call = undefined;
    if (end.kind === 'answered' && end.status === Status.OK && !intake.isWhole) this.stopped ??= 'unreadable';
    if (this.stopped === undefined) await intake.finish();
    else intake.stop();
    if (this.stopped !== undefined) return await this.afterStop(this.stopped);
    return await this.afterEnd(end, intake, path, runMs <= leftMs);
  }

  /** Calls the agent. The request is in memory until the call has sent it: afterwards nothing here has it any more. */
  private async begin(edition: string, runMs: number): Promise<{ call: InnerCall; path: string }> {
    const { record, requestBytes } = this.lease;
    const room = new Room(this.context.memory.requests, {
      caller: `for ${record.agentType}`,
      signal: this.over.signal,
      timeLeftMs: () => Number.POSITIVE_INFINITY,
      isPatient: true,
    });
    try {
      await room.take(REQUEST_COPIES * requestBytes);
      const { path, scope, fields, message } = await this.readRequest();
      const caller = { identity: record.publisher, scope, edition: `${record.generation}${edition}` };
      const { agentType: authority } = record;
      const timeoutMs = Math.min(Math.max(1, record.deadlineAtMs - this.context.log.nowMs()), runMs);
      const call = this.context.calls.call(caller, { path, authority, fields, message, timeoutMs });
      void call.sent.then(() => room.give());
      return { call, path };
    } catch (error) {
      room.give();
      throw error;
    }
  }

  private intakeOf(call: InnerCall, isUnary: boolean): AnswerIntake {
    const { wheel, clock, sealer, settings } = this.context;
    let head: Fields = [];
    const intake = new AnswerIntake({
      isUnary,
      maxBytes: settings.maxAnswerBytes,
      wheel,
      clock,
      write: (count, messages) => {
        const payload = withHead(head, messages);
        head = [];
        return this.store(() => this.lease.write(count, sealer.seal(payload)));
      },
      onRoom: () => call.resume(),
      onFailed: (error) => this.stop({ failed: error }),
    });
    call.onHead = (fields) => {
      head = fields;
    };
    call.onEncoding = (encoding) => intake.readAs(encoding);
    call.onData = (chunk) => {
      const failure = intake.read(chunk);
      if (failure !== undefined) this.stop(failure);
      else if (intake.isFull) call.pause();
    };
    return intake;
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
      return await this.settle(status, message(settings.maxAnswerBytes));
    }
    events.onFenced(this.lease.record, stop);
    return 'ended';
  }

  private async afterEnd(
    end: InnerEnd,
    intake: AnswerIntake,
    path: string,
    isRunTimeout: boolean,
  ): Promise<RunOutcome> {
    const { context, lease } = this;
    const because = end.kind === 'answered' ? end.statusMessage : end.because;
    const next = afterAnswer(end, context.isDraining);
    if (next === 'lose') return await this.lose(because);
    if (next === 'run_anew') return await this.execute(`.${lease.record.run}`);
    if (next === 'give_back' || end.kind !== 'answered') {
      await this.giveBack(because);
      return context.isDraining ? 'ended' : 'turned_away';
    }
    if (!isRunTimeout && (await this.hasMoreTime(end.status)))
      return await this.giveBack('its deadline was moved while it ran');
    const { status, head, trailers } = end;
    let { statusMessage } = end;
    if (isRunTimeout && end.reason === 'deadline')
      statusMessage = `the run took longer than bus.consume.run_timeout (${context.settings.runTimeoutMs} ms)`;
    const answer = status === Status.OK ? intake.answer : undefined;
    if (status === Status.OK && isUnaryPath(path) && answer === undefined)
      return await this.settle(
        Status.INTERNAL,
        'the agent answered a unary call with no message, or several',
      );
    return await this.settleWith(status, encodeResult({ statusMessage, head, trailers, answer }));
  }

  /** A caller that has joined waits for longer than the agent, or its sidecar, could know: another run has that time. */
  private async hasMoreTime(status: number): Promise<boolean> {
    const { log } = this.context;
    const { key, deadlineAtMs } = this.lease.record;
    if (status !== Status.DEADLINE_EXCEEDED || log.nowMs() < deadlineAtMs - DEADLINE_EARLY_MS) return false;
    let nowAtMs = deadlineAtMs;
    await this.store(async () => {
      nowAtMs = (await log.get(key))?.deadlineAtMs ?? deadlineAtMs;
    });
    return nowAtMs > deadlineAtMs;
  }

  // --- The ends of a run -----------------------------------------------------------------------------------

  private settle(status: number, statusMessage: string): Promise<RunOutcome> {
    return this.settleWith(
      status,
      encodeResult({ statusMessage, head: [], trailers: [], answer: undefined }),
    );
  }

  private async settleWith(status: number, payload: Buffer): Promise<RunOutcome> {
    const { sealer, events } = this.context;
    const sealed = sealer.seal(payload);
    // The result is paid for: it counts as long as the log has given the task to nobody else.
    await this.store(() => this.lease.settle({ status, payload: sealed }), true);
    events.onSettled(this.lease.record, status);
    return 'ended';
  }

  private async giveBack(because: string): Promise<RunOutcome> {
    await this.store(() => this.lease.giveBack());
    this.context.events.onGivenBack(this.lease.record, because);
    return 'ended';
  }

  /** While keys are given out, some sidecars have them and others do not yet: the task waits for one that can read it. */
  private async leaveToOthers({ message }: MissingKeyError): Promise<RunOutcome> {
    try {
      await this.giveBack(message);
    } catch (error) {
      this.context.events.onProblem(error);
    }
    return 'turned_away';
  }

  private async lose(cause: string): Promise<RunOutcome> {
    await this.store(() => this.lease.lose(cause));
    this.context.events.onLost(this.lease.record, cause);
    return 'ended';
  }

  private async bury(cause: string): Promise<RunOutcome> {
    const { events } = this.context;
    try {
      await this.store(() => this.lease.bury(cause));
      events.onBuried(this.lease.record, cause);
    } catch (error) {
      events.onProblem(error);
    }
    return 'ended';
  }

  /** @param afterLease whether it is tried also when the lease may have ended: the fence decides */
  private store(step: () => Promise<void>, afterLease = false): Promise<void> {
    const { context, keeper } = this;
    return persist(step, () => !context.isClosing && (afterLease || !keeper.isOver), context.random);
  }
}

/** The task can never run: whoever submitted it must do so in another way. */
class UnreadableTaskError extends TypedError {
  readonly source: ErrorSource = 'downstream';
  readonly isSafeToRetry = false;
}
