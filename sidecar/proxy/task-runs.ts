import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import type { StatusCode } from '../grpc/status.ts';
import {
  type Leaving,
  TASK_REFUSALS,
  type TaskEntry,
  TaskStore,
  type TaskStoreSettings,
  taskFingerprint,
  taskScope,
} from '../task/task-store.ts';
import type { Call } from './call.ts';
import { followTrace } from './call-tracing.ts';
import { OVERLOADED_PUSHBACK_MS } from './failure-reply.ts';
import { reply } from './reasons.ts';
import { TaskFollower } from './task-follower.ts';

/**
 * The largest request, with its five bytes of prefix, that is told apart from others; larger ones run each time they
 * come. Peers are told, so that they do not send such a task again (`SettingId.OUTRIGGER_TASKS_ONCE`).
 */
export const TASK_REQUEST_MAX_BYTES = 65_536;
/** PROTOCOL-HTTP2, "Length-Prefixed-Message": a flag and four bytes of length. */
const PREFIX_BYTES = 5;

/** `buffer[start, end)` of a request's first message. */
interface Message {
  readonly buffer: Buffer;
  readonly start: number;
  readonly end: number;
}

/** Whether calls of tasks that come again are to be found. */
export function runsOnce({ context }: Call): boolean {
  return context.taskRuns !== undefined && context.settings.deduplicateTasks;
}

/** Whether a task's message must be here before it can go on: to be found again, or to find whom it is made for. */
export function needsTask({ context, owner }: Call): boolean {
  return context.listener === 'inbound' || (owner === undefined && context.inboundCalls.size > 1);
}

/** False: the call is not to be run. A request that is too large, or has no id, runs each time it comes. */
export function beginTask(call: Call, message: Message | undefined): boolean {
  const { task, request } = call;
  if (!runsOnce(call) || message === undefined || task === undefined || task.taskId === '') return true;
  if (!request.ended || request.bytes !== PREFIX_BYTES + message.end - message.start) return true;
  return call.context.taskRuns!.begin(call, task.taskId, message);
}

/**
 * Runs each task once (`task/task-store.ts`): the inbound side asks before a call is admitted, so that those who join
 * a task in flight take no place of its own.
 */
export class TaskRuns extends Timer {
  readonly store: TaskStore<Call>;
  private readonly wheel: TimerWheel;
  private readonly clock: () => number;
  private armedForMs = Number.POSITIVE_INFINITY;

  constructor(settings: TaskStoreSettings, wheel: TimerWheel, clock: () => number) {
    super();
    this.store = new TaskStore(settings);
    this.wheel = wheel;
    this.clock = clock;
  }

  /** False: the call is not to be run; it follows the one that is, or has been answered. */
  begin(call: Call, taskId: string, message: Message): boolean {
    const { info } = call;
    info.taskScope ??= taskScope(call.head.path, info.authorization);
    const fingerprint = taskFingerprint(info.taskScope, message.buffer, message.start, message.end);
    const follower = new TaskFollower(this, call);
    const nowMs = this.clock();
    const begun = this.store.begin(taskId, fingerprint, call, follower, nowMs);
    switch (begun.decision) {
      case 'run':
        call.response.run = new TaskRun(this, begun.entry);
        return true;
      case 'join':
      case 'replay':
        followTrace(call, begun.reader.entry.runner, begun.decision === 'join' ? 'joined' : 'replayed');
        call.follow(follower);
        follower.start(begun.reader, begun.decision);
        return false;
      case 'refuse': {
        const message = TASK_REFUSALS[begun.reason];
        if (begun.reason === 'full') call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
        else call.answer(reply('task_not_repeatable', message));
        return false;
      }
    }
  }

  /** The caller of the call that runs a task has gone. True: the task runs on, for others or for its retry. */
  runsOn(run: TaskRun, leaving: Leaving): boolean {
    const remains = this.store.runnersCallerLeft(run.entry, leaving, this.clock());
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

  end(entry: TaskEntry<Call>, status: StatusCode, taskStatus: number, trailers: readonly string[]): void {
    this.store.finish(entry, { status, taskStatus, trailers }, this.clock());
    if (this.armedForMs === Number.POSITIVE_INFINITY) this.schedule();
  }
}

/** The call that runs a task writes its answer here for those who have sent the same task. */
export class TaskRun {
  readonly runs: TaskRuns;
  readonly entry: TaskEntry<Call>;

  constructor(runs: TaskRuns, entry: TaskEntry<Call>) {
    this.runs = runs;
    this.entry = entry;
  }

  onHead(fields: readonly string[]): void {
    this.runs.store.head(this.entry, fields);
  }

  onData(buffer: Buffer, start: number, end: number): void {
    this.runs.store.append(this.entry, buffer, start, end);
  }

  /** The first one counts. */
  onEnd(status: StatusCode, taskStatus: number, trailers: readonly string[]): void {
    this.runs.end(this.entry, status, taskStatus, trailers);
  }
}
