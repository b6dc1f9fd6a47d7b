import { Status, type StatusCode } from '../grpc/status.ts';
import type { Stream } from '../http2/streams.ts';
import { deadlineReached } from '../policy/deadline.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Leaving, TaskEntry } from '../task/task-store.ts';
import { countCallerGone, type HeardCall } from './call-accounting.ts';
import { sendLocalReply } from './local-reply.ts';
import type { CallTrace } from './observed-call.ts';
import type { LocalReply } from './reasons.ts';

/** The call that runs a task. Once its own caller is gone what that one got is written here. */
export interface TaskRunner extends HeardCall {
  readonly stream: Stream;
  readonly head: { readonly method: string };
  readonly info: HeardCall['info'];
  readonly trace: CallTrace | null | undefined;
  readonly request: { readonly whole: boolean; readonly parts: readonly Buffer[] };
  readonly response: { readonly started: boolean; run: TaskRun | undefined };
  readonly deadlineMs: number;
  /** Its caller's time is up, and bounds it no more. */
  liftDeadline(): void;
  reason: Reason | undefined;
  /** Nobody waits for the task. */
  abandon(): void;
}

/** Where the runs of a listener's tasks are kept. */
export interface KeptRuns {
  readonly store: {
    head(entry: TaskEntry<TaskRunner>, fields: readonly string[]): void;
    append(entry: TaskEntry<TaskRunner>, buffer: Buffer, start: number, end: number): void;
  };
  /** The caller of the call that runs a task has gone. True: the task runs on, for others or for its retry. */
  runsOn(entry: TaskEntry<TaskRunner>, leaving: Leaving): boolean;
  end(run: TaskRun, status: StatusCode, taskStatus: number, trailers: readonly string[]): void;
}

/** The call that runs a task writes its answer here for those who have sent the same task. */
export class TaskRun {
  readonly entry: TaskEntry<TaskRunner>;
  readonly call: TaskRunner;
  private readonly runs: KeptRuns;
  /** Its own caller's time was up while others had joined. */
  private late = false;
  /** Its own caller has left; it runs for others. */
  private left = false;
  /** Of what waits for its own caller, bytes that the app has been told to send more for. */
  private aheadBytes = 0;

  constructor(runs: KeptRuns, entry: TaskEntry<TaskRunner>, call: TaskRunner) {
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
    this.call.liftDeadline();
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
