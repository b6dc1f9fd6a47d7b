/** Records the answer of a call that runs a task, for the others who have sent the same task. */
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { Stream } from '../http2/streams.ts';
import { deadlineReached } from '../policy/deadline.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Leaving, TaskEntry } from '../task/task-store.ts';
import { countCallerGone, type HeardCall } from './call-accounting.ts';
import { sendLocalReply } from './local-reply.ts';
import type { CallTrace } from './observed-call.ts';
import type { LocalReply } from './reasons.ts';

/** The call that runs a task. */
export interface TaskRunner extends HeardCall {
  readonly stream: Stream;
  readonly head: { readonly method: string };
  readonly info: HeardCall['info'];
  readonly trace: CallTrace | null | undefined;
  readonly request: { readonly whole: boolean; readonly parts: readonly Buffer[] };
  readonly progress: HeardCall['progress'] & {
    readonly isAnswering: boolean;
    explain(reason: Reason): void;
  };
  readonly role: { readonly run: TaskRun | undefined };
  readonly clock: {
    readonly deadlineMs: number;
    /** Removes the caller's deadline, which has passed, from the call. */
    liftDeadline(): void;
  };
  /** No caller waits for the task. */
  abandon(): void;
}

/** Where a listener keeps the runs of its tasks. */
export interface KeptRuns {
  readonly store: {
    head(entry: TaskEntry<TaskRunner>, fields: readonly string[]): void;
    append(entry: TaskEntry<TaskRunner>, buffer: Buffer, start: number, end: number): void;
  };
  /** The caller of the runner has left. Returns true when the task continues, for others or for its retry. */
  runsOn(entry: TaskEntry<TaskRunner>, leaving: Leaving): boolean;
  end(run: TaskRun, status: StatusCode, taskStatus: number, trailers: readonly string[]): void;
}

/**
 * - `attended`: its own caller waits for the answer;
 * - `unattended`: its own caller left, and it runs for followers;
 * - `overtime`: the deadline of its own caller passed while followers waited.
 */
type RunState = 'attended' | 'unattended' | 'overtime' | 'ended';

/** The arrows of the drawing at {@link TaskRun}. */
export const RUN_ARROWS: Arrows<RunState> = {
  attended: ['unattended', 'ended'],
  unattended: ['overtime', 'ended'],
  overtime: ['ended'],
  ended: [],
};

const STATE = statesOf(RUN_ARROWS);

/**
 * The run of a task, by the call that came first:
 *
 *     attended ──its caller left──▶ unattended ──at the caller's deadline──▶ overtime
 *        └──────────────────────────────┴──────────▶ ended ◀──────────────────┘
 */
export class TaskRun {
  readonly entry: TaskEntry<TaskRunner>;
  readonly call: TaskRunner;
  private readonly runs: KeptRuns;
  private state: StateOf<RunState> = STATE.attended;
  private onOver: ((status: StatusCode, taskStatus: number) => void) | undefined = undefined;
  /** Of the bytes that wait for its own caller, those for which the app received credit already. */
  private aheadBytes = 0;

  constructor(runs: KeptRuns, entry: TaskEntry<TaskRunner>, call: TaskRunner) {
    this.runs = runs;
    this.entry = entry;
    this.call = call;
  }

  private get isAttended(): boolean {
    return this.state === STATE.attended;
  }

  private become(to: StateOf<RunState>): void {
    this.state = move(this.state, to);
  }

  /** The caller has left. Returns true when the task continues, for others or for the caller's retry. */
  outlives(leaving: Leaving): boolean {
    if (!this.runs.runsOn(this.entry, leaving)) return false;
    countCallerGone(this.call, leaving === 'time_is_up' ? Status.DEADLINE_EXCEEDED : Status.CANCELLED);
    if (this.isAttended) this.become(STATE.unattended);
    this.readAhead();
    return true;
  }

  /**
   * The caller's deadline passed, or the caller can't receive the answer. Returns true when the caller, if it is still
   * connected, received this reply and the task continues for others.
   */
  outlivesAnswer(local: LocalReply): boolean {
    const { call, entry } = this;
    if (entry.callers <= (this.isAttended ? 1 : 0)) return false;
    if (!this.isAttended) return true;
    const { head, context, progress, stream } = call;
    sendLocalReply(stream, local, true, progress.isAnswering, head.method);
    context.stats.reject(local.reason);
    progress.explain(local.reason);
    countCallerGone(call, local.status);
    return this.outlives('cancelled');
  }

  /**
   * The caller's deadline passed. Returns true as {@link outlivesAnswer} does; the deadline then no longer bounds the
   * app's work.
   */
  outlivesDeadline(late: LocalReply): boolean {
    if (!this.outlivesAnswer(late)) return false;
    if (this.state === STATE.unattended) this.become(STATE.overtime);
    this.call.clock.liftDeadline();
    return true;
  }

  /**
   * Followers must not wait for a caller that does not read: while the whole answer is kept, the app may continue to
   * send. The store bounds the kept bytes, and flow control the bytes that wait beside them.
   */
  get readsAhead(): boolean {
    const { entry } = this;
    return entry.refusal === undefined && entry.readers !== undefined && entry.readers.size > 0;
  }

  /** Followers have joined, or nobody reads here any more: gives the app credit for the bytes that wait. */
  readAhead(): void {
    const { attempt } = this.call;
    const bytes = attempt?.stream?.unconsumed ?? 0;
    if (bytes <= 0) return;
    if (this.isAttended) this.aheadBytes += bytes;
    attempt!.consume(bytes);
  }

  /** Sends to its own caller. @returns how many bytes the app may send in their place now */
  send(stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const bytes = end - start;
    const { readsAhead } = this;
    // Decide before sending: bytes that leave the queue are reported within the call.
    if (readsAhead) this.aheadBytes += bytes;
    const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
    if (readsAhead) this.aheadBytes -= sent;
    return readsAhead || stream.closed ? bytes : sent;
  }

  /** This many waiting bytes went out. @returns how many of them the app has no credit for yet */
  owed(bytes: number): number {
    const told = Math.min(bytes, this.aheadBytes);
    this.aheadBytes -= told;
    return bytes - told;
  }

  /** Whether the app has ended the call because of the deadline, which it watches, too. */
  endsForTime(status: StatusCode, nowMs: number): boolean {
    if (this.state === STATE.overtime)
      return status === Status.DEADLINE_EXCEEDED || status === Status.CANCELLED;
    const { clock, startedAtMs } = this.call;
    const { deadlineMs } = clock;
    if (status !== Status.DEADLINE_EXCEEDED || deadlineMs === 0) return false;
    return deadlineReached(nowMs - startedAtMs, deadlineMs - startedAtMs);
  }

  onHead(fields: readonly string[]): void {
    this.runs.store.head(this.entry, fields);
  }

  onData(buffer: Buffer, start: number, end: number): void {
    this.runs.store.append(this.entry, buffer, start, end);
  }

  /** Calls `listener` once with how the run has ended; a second listener replaces the first. */
  whenOver(listener: (status: StatusCode, taskStatus: number) => void): void {
    this.onOver = listener;
  }

  /** The first end counts. */
  onEnd(status: StatusCode, taskStatus: number, trailers: readonly string[]): void {
    this.runs.end(this, status, taskStatus, trailers);
    this.become(STATE.ended);
    this.onOver?.(status, taskStatus);
  }
}
