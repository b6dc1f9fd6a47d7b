/** Runs each task of a listener once: a repeated call joins the running one, or gets the kept answer. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { PREFIX_BYTES } from '../grpc/message-framing.ts';
import type { StatusCode } from '../grpc/status.ts';
import {
  fingerprintFor,
  type Leaving,
  TASK_REFUSALS,
  type TaskEntry,
  TaskStore,
  type TaskStoreSettings,
  type TaskSubscriber,
  taskFingerprint,
  taskScope,
} from '../task/task-store.ts';
import type { CallWith } from './call-facts.ts';
import { followTrace, type RecordedCall } from './call-tracing.ts';
import { OVERLOADED_PUSHBACK_MS } from './failure-reply.ts';
import { reply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import { type FollowingCall, TaskFollower } from './task-follower.ts';
import { TaskRun, type TaskRunner } from './task-run.ts';

/**
 * The largest request, including its five bytes of prefix, that is recognised when it comes again; larger ones run each
 * time. Peers learn the limit, so that they do not send such a task again (`grpc/sidecar-settings.ts`).
 */
export const TASK_REQUEST_MAX_BYTES = 65_535;

/** Whether, and where, a listener runs its tasks once. */
interface TaskContext {
  readonly taskRuns: TaskRuns | undefined;
  readonly settings: { readonly deduplicateTasks: boolean };
}

/** A call of a task. It gets its part here: it runs the task, or follows the call that does. */
export type TaskCall = TaskRunner &
  TaskSubscriber &
  FollowingCall &
  RecordedCall & {
    readonly context: TaskContext;
    readonly runScope: string;
    readonly role: { runFor(run: TaskRun): void };
    follow(follower: TaskFollower): void;
  };

/** Whether repeated calls of tasks are recognised. */
export function runsOnce({ context }: { readonly context: TaskContext }): boolean {
  return context.taskRuns !== undefined && context.settings.deduplicateTasks;
}

/** Whether a call must wait for its task's message: to recognise the task, or to find the owner. */
export function needsTaskMessage({ context, lineage }: CallWith<'context' | 'lineage'>): boolean {
  if (context.listener === 'inbound') return true;
  return lineage.owner === undefined && !lineage.isOwnerOver && context.inboundCalls.size > 0;
}

/** Returns false when the call must not run. A request that is too large, or has no id, runs each time. */
export function runOrFollowTask(call: TaskCall, message: FirstMessage | undefined): boolean {
  const { task, request } = call;
  if (!runsOnce(call) || message === undefined || task === undefined || task.taskId === '') return true;
  // Compressed or not, it is the same task, if the whole message was readable.
  if (!request.ended || !message.whole || request.bytes !== PREFIX_BYTES + message.wireBytes) return true;
  return call.context.taskRuns!.begin(call, message);
}

/**
 * Runs each task once (`task/task-store.ts`). The inbound side asks it before admission, so that calls which join a
 * running task take no place of their own.
 */
export class TaskRuns extends Timer {
  readonly store: TaskStore<TaskRunner>;
  /** The call whose run ended at its deadline; set while its followers are notified. */
  outOfTime: TaskRunner | undefined = undefined;
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

  /** Returns false when the call must not run: it follows the call that is running the task, or gets the kept answer. */
  begin(call: TaskCall, message: FirstMessage): boolean {
    const { info, runScope } = call;
    info.taskScope ??= this.scopeOf(call.head.path, runScope);
    const fingerprint = taskFingerprint(info.taskScope, message.buffer, message.start, message.end);
    const nowMs = this.clock();
    let begun = this.store.begin(fingerprint, call, call, nowMs, info);
    if (begun.decision === 'unreadable')
      begun = this.store.begin(fingerprintFor(fingerprint, info.acceptedEncodings), call, call, nowMs);
    switch (begun.decision) {
      case 'run':
        call.role.runFor(new TaskRun(this, begun.entry, call));
        begun.abandoned?.runner?.abandon();
        return true;
      case 'join':
      case 'replay': {
        followTrace(call, begun.reader.entry.runner, begun.decision === 'join' ? 'joined' : 'replayed');
        const follower = new TaskFollower(this, call);
        call.follow(follower);
        begun.reader.entry.runner?.role.run?.readAhead();
        follower.start(begun.reader, begun.decision);
        return false;
      }
      // Can't occur: the second look-up does not depend on the encodings that the caller can read.
      case 'unreadable':
        return true;
      case 'refuse': {
        const message = TASK_REFUSALS[begun.reason];
        if (begun.reason === 'full') call.answer(reply('overloaded', message, OVERLOADED_PUSHBACK_MS));
        else call.answer(reply('task_not_repeatable', message));
        return false;
      }
      default:
        return begun satisfies never;
    }
  }

  /** Remembers the latest scope: callers whose heads always differ (by a trace id, say) still have the same one. */
  private scopeOf(path: string, caller: string): string {
    const { last } = this;
    if (last.path !== path || last.caller !== caller)
      this.last = { path, caller, scope: taskScope(path, caller) };
    return this.last.scope;
  }

  /** The caller of the runner has left. Returns true when the task continues, for others or for its retry. */
  runsOn(entry: TaskEntry<TaskRunner>, leaving: Leaving): boolean {
    const remains = this.store.runnersCallerLeft(entry, leaving, this.clock());
    if (remains === 'linger') this.schedule();
    return remains !== 'abort';
  }

  /** Sets the timer to the store's next expiry; call it when something was added to the store. */
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
