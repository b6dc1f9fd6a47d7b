import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { Stream } from '../http2/streams.ts';
import { deadlineReached } from '../policy/deadline.ts';
import {
  fingerprintFor,
  type Leaving,
  TASK_REFUSALS,
  type TaskEntry,
  TaskStore,
  type TaskStoreSettings,
  taskFingerprint,
  taskScope,
} from '../task/task-store.ts';
import type { Call } from './call.ts';
import { countCallerGone } from './call-accounting.ts';
import { followTrace } from './call-tracing.ts';
import { OVERLOADED_PUSHBACK_MS } from './failure-reply.ts';
import { sendLocalReply } from './local-reply.ts';
import { type LocalReply, reply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import { TaskFollower } from './task-follower.ts';

/**
 * The largest request, with its five bytes of prefix, that is told apart from others; larger ones run each time they
 * come. Peers are told, so that they do not send such a task again (`SettingId.OUTRIGGER_TASKS_ONCE`).
 */
export const TASK_REQUEST_MAX_BYTES = 65_535;

/** Whether calls of tasks that come again are to be found. */
export function runsOnce({ context }: Call): boolean {
  return context.taskRuns !== undefined && context.settings.deduplicateTasks;
}

/** Whether a task's message must be here before it can go on: to be found again, or to find whom it is made for. */
export function needsTask({ context, owner, ownerless }: Call): boolean {
  return (
    context.listener === 'inbound' || (owner === undefined && !ownerless && context.inboundCalls.size > 0)
  );
}

/** False: the call is not to be run. A request that is too large, or has no id, runs each time it comes. */
export function beginTask(call: Call, message: FirstMessage | undefined): boolean {
  const { task, request } = call;
  if (!runsOnce(call) || message === undefined || task === undefined || task.taskId === '') return true;
  // Compressed or not it is the same task, as far as all of it could be read.
  if (!request.ended || !message.whole || request.bytes !== PREFIX_BYTES + message.wireBytes) return true;
  return call.context.taskRuns!.begin(call, message);
}

/**
 * Runs each task once (`task/task-store.ts`): the inbound side asks before a call is admitted, so that those who join
 * a task in flight take no place of its own.
 */
export class TaskRuns extends Timer {
  readonly store: TaskStore<Call>;
  /** While those who have joined a run are told that it has ended: the call that it ran for, if it was its time that was up. */
  outOfTime: Call | undefined = undefined;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private armedForMs = Number.POSITIVE_INFINITY;
  private last = { path: '', caller: '', scope: '' };

  constructor(settings: TaskStoreSettings, wheel: TimerWheel, clock: () => number) {
    super();
    this.store = new TaskStore(settings);
    this.wheel = wheel;
    this.clock = clock;
  }

  /** False: the call is not to be run; it follows the one that is, or has been answered. */
  begin(call: Call, message: FirstMessage): boolean {
    const { callerScope, info } = call;
    info.taskScope ??= this.scopeOf(call.head.path, callerScope);
    const fingerprint = taskFingerprint(info.taskScope, message.buffer, message.start, message.end);
    const nowMs = this.clock();
    let begun = this.store.begin(fingerprint, call, call, nowMs, info);
    if (begun.decision === 'unreadable')
      begun = this.store.begin(fingerprintFor(fingerprint, info.acceptedEncodings), call, call, nowMs);
    switch (begun.decision) {
      case 'run':
        call.response.run = new TaskRun(this, begun.entry, call);
        begun.abandoned?.runner?.abandon();
        return true;
      case 'join':
      case 'replay':
        followTrace(call, begun.reader.entry.runner, begun.decision === 'join' ? 'joined' : 'replayed');
        call.follow(new TaskFollower(this, call));
        begun.reader.entry.runner?.response.run?.readAhead();
        call.follower!.start(begun.reader, begun.decision);
        return false;
      // Nobody was asked.
      case 'unreadable':
        return true;
      case 'refuse': {
        const message = TASK_REFUSALS[begun.reason];
        if (begun.reason === 'full') call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
        else call.answer(reply('task_not_repeatable', message));
        return false;
      }
    }
  }

  /** Remembers the last one: callers whose heads are never the same (by a trace, say) still ask for the same. */
  private scopeOf(path: string, caller: string): string {
    const { last } = this;
    if (last.path !== path || last.caller !== caller)
      this.last = { path, caller, scope: taskScope(path, caller) };
    return this.last.scope;
  }

  /** The caller of the call that runs a task has gone. True: the task runs on, for others or for its retry. */
  runsOn(entry: TaskEntry<Call>, leaving: Leaving): boolean {
    const remains = this.store.runnersCallerLeft(entry, leaving, this.clock());
    if (remains === 'linger') this.schedule();
    return remains !== 'abort';
  }

  /** Tells the store's clock; call when something was added to it. */
  schedule(): void {
    const nowMs = this.clock();
    const atMs = this.store.nextAtMs(nowMs);
    if (atMs >= this.armedForMs || atMs === Number.POSITIVE_INFINITY) return;
    this.armedForMs = atMs;
    this.wheel.arm(this, atMs);
  }

  override onTimeout(nowMs: number): void {
    this.armedForMs = Number.POSITIVE_INFINITY;
    for (const { runner } of this.store.tick(nowMs)) runner?.abandon();
    this.schedule();
  }

  stop(): void {
    this.wheel.cancel(this);
  }

  end(run: TaskRun, status: StatusCode, taskStatus: number, trailers: readonly string[]): void {
    const nowMs = this.clock();
    this.outOfTime = run.endsForTime(status, nowMs) ? run.call : undefined;
    this.store.finish(run.entry, { status, taskStatus, trailers }, nowMs);
    this.outOfTime = undefined;
    if (this.armedForMs === Number.POSITIVE_INFINITY) this.schedule();
  }
}

/** The call that runs a task writes its answer here for those who have sent the same task. */
export class TaskRun {
  readonly entry: TaskEntry<Call>;
  readonly call: Call;
  private readonly runs: TaskRuns;
  /** Its own caller's time was up while others had joined. */
  private late = false;
  /** Its own caller has left; it runs for others. */
  private left = false;
  /** Of what waits for its own caller, bytes that the app has been told to send more for. */
  private aheadBytes = 0;

  constructor(runs: TaskRuns, entry: TaskEntry<Call>, call: Call) {
    this.runs = runs;
    this.entry = entry;
    this.call = call;
  }

  /** Its caller has gone. True: the task runs on, for others or for its caller's retry. */
  outlives(leaving: Leaving): boolean {
    if (!this.runs.runsOn(this.entry, leaving)) return false;
    countCallerGone(this.call, leaving === 'time_is_up' ? Status.DEADLINE_EXCEEDED : Status.CANCELLED);
    this.left = true;
    this.readAhead();
    return true;
  }

  /**
   * Its caller's time is up, or it can't take the answer. True: the caller, if it is still there, was told this, and the
   * task runs on for others.
   */
  outlivesAnswer(local: LocalReply): boolean {
    const { call, entry } = this;
    if (entry.callers <= (this.left ? 0 : 1)) return false;
    if (this.left) return true;
    const { head, context, response, stream } = call;
    sendLocalReply(stream, local, true, response.started, head.method);
    context.stats.reject(local.reason);
    call.reason = local.reason;
    countCallerGone(call, local.status);
    return this.outlives('cancelled');
  }

  /** Its caller's time is up. True: as for {@link outlivesAnswer}, and what the app does is not bound by that time any more. */
  outlivesDeadline(late: LocalReply): boolean {
    if (!this.outlivesAnswer(late)) return false;
    this.late = true;
    this.call.deadlineMs = 0;
    this.call.deadlineOwner = 'none';
    return true;
  }

  /**
   * Those who have joined must not wait for a caller that does not read: while all of the answer is kept, the app may
   * send on. What is kept is bounded, and so is what waits beside it.
   */
  get readsAhead(): boolean {
    const { entry } = this;
    return entry.refusal === undefined && entry.readers !== undefined && entry.readers.size > 0;
  }

  /** Others have joined, or nobody reads here any more: the app may send in place of what waits. */
  readAhead(): void {
    const { attempt } = this.call;
    const bytes = attempt?.stream?.unconsumed ?? 0;
    if (bytes <= 0) return;
    if (!this.left) this.aheadBytes += bytes;
    attempt!.consume(bytes);
  }

  /** Sends on to its own caller. @returns how many bytes the app may send in their place now */
  send(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const bytes = end - start;
    const { readsAhead } = this;
    // Before they are sent: what goes out of the queue is reported within the call.
    if (readsAhead) this.aheadBytes += bytes;
    const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
    if (readsAhead) this.aheadBytes -= sent;
    return readsAhead || stream.closed ? bytes : sent;
  }

  /** So many bytes of what waited went out. @returns how many the app has not been told of */
  owed(bytes: number): number {
    const told = Math.min(bytes, this.aheadBytes);
    this.aheadBytes -= told;
    return bytes - told;
  }

  /** Whether the app, which watches the deadline of this call too, has ended it for that. */
  endsForTime(status: StatusCode, nowMs: number): boolean {
    if (this.late) return status === Status.DEADLINE_EXCEEDED || status === Status.CANCELLED;
    const { deadlineMs, startedAtMs } = this.call;
    if (status !== Status.DEADLINE_EXCEEDED || deadlineMs === 0) return false;
    return deadlineReached(nowMs - startedAtMs, deadlineMs - startedAtMs);
  }

  onHead(fields: readonly string[]): void {
    this.runs.store.head(this.entry, fields);
  }

  onData(buffer: Buffer, start: number, end: number): void {
    this.runs.store.append(this.entry, buffer, start, end);
  }

  /** The first one counts. */
  onEnd(status: StatusCode, taskStatus: number, trailers: readonly string[]): void {
    this.runs.end(this, status, taskStatus, trailers);
  }
}
