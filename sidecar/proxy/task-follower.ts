/** Sends a call the answer of another call that runs the same task. */
import { ATTEMPT_COMES_BACK } from '../grpc/sidecar-settings.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { timeLeftMs } from '../policy/deadline.ts';
import type { Leaving, Remains, TaskReader } from '../task/task-store.ts';
import type { CallWith } from './call-facts.ts';
import { isTooLarge, replyToOversize, statusAlone } from './oversize.ts';
import { reply } from './reasons.ts';
import { DEDUPLICATED_HEADER } from './sidecar-fields.ts';
import type { TaskRunner } from './task-run.ts';

/** Where a listener keeps the runs of its tasks. */
interface FollowedRuns {
  readonly store: { leave(reader: TaskReader<TaskRunner>, leaving: Leaving, nowMs: number): Remains };
  /** The call whose run ended at its deadline; set while its followers are notified. */
  readonly outOfTime: TaskRunner | undefined;
  schedule(): void;
}

/** The call that follows. */
export interface FollowingCall
  extends CallWith<'stream' | 'context' | 'info' | 'request' | 'response' | 'clock' | 'progress', 'answer'> {
  readonly role: { stopFollowing(): void };
  observeTask(): void;
  /** The call had joined another call's task, and now runs it itself. */
  runAgain(): void;
  /** The other call's answer was sent completely, or waits for the caller to read. */
  completeAnswer(status: StatusCode): void;
}

/** Sends a call the answer of the call that runs, or has run, the same task, at the pace of its own caller. */
export class TaskFollower {
  private readonly runs: FollowedRuns;
  private readonly call: FollowingCall;
  private reader: TaskReader<TaskRunner> | undefined = undefined;
  private how = '';
  private headSent = false;

  constructor(runs: FollowedRuns, call: FollowingCall) {
    this.runs = runs;
    this.call = call;
  }

  start(reader: TaskReader<TaskRunner>, decision: 'join' | 'replay'): void {
    this.reader = reader;
    this.how = decision === 'join' ? 'joined' : 'replayed';
    this.pump();
  }

  /** The call that runs the task; spans and logs may point to it. */
  get runner(): TaskRunner | undefined {
    return this.reader?.entry.runner;
  }

  /** Sends what has arrived, as far as the caller reads. Call it again when the stream has room. */
  pump(): void {
    const { call, reader } = this;
    if (reader === undefined || call.progress.isDone) return;
    const { stream } = call;
    if (reader.lost) {
      call.answer(
        reply('stream_cut', 'the answer was not read as fast as it came, and is not kept for so long'),
      );
      return;
    }
    if (!this.headSent && reader.head !== undefined) {
      this.headSent = true;
      const head = new HeaderList(reader.head);
      if (isTooLarge(head, stream.connection)) {
        call.answer(replyToOversize(call, 'the app', 'initial metadata', head));
        return;
      }
      call.response.sendHead(head);
    }
    while (stream.queue === undefined) {
      const bytes = reader.next();
      if (bytes === undefined) break;
      call.response.sendData(bytes, 0, bytes.length, false);
    }
    // Sending may have called back: more of the answer, and its end, may have gone out already.
    if (call.progress.isDone) return;
    const { end } = reader;
    if (end === undefined) return;
    if (this.endedForAnother(reader)) {
      // Copy them at once: the other call drops its bytes when it has ended.
      call.request.adopt(this.runs.outOfTime!.request.parts);
      this.leave('cancelled');
      runAgain(call);
      return;
    }
    let trailers = new HeaderList(end.trailers);
    if (isTooLarge(trailers, stream.connection)) {
      if (end.status === Status.OK) {
        call.answer(replyToOversize(call, 'the app', 'trailers', trailers));
        return;
      }
      trailers = statusAlone(trailers, end.status, !this.headSent);
    }
    call.response.sendEnd(trailers, end.status, [DEDUPLICATED_HEADER, this.how]);
    this.leave('cancelled');
    call.completeAnswer(end.status);
  }

  /**
   * Whether the run ended at the deadline of its own call, while this call has time left and has seen none of the
   * answer.
   */
  private endedForAnother({ head }: TaskReader<TaskRunner>): boolean {
    const { outOfTime } = this.runs;
    const { clock, context, info } = this.call;
    if (outOfTime === undefined || head !== undefined || !outOfTime.request.whole) return false;
    // The same task may have arrived in another compression, which this call's head does not name.
    return outOfTime.info.encoding === info.encoding && timeLeftMs(clock.deadlineMs, context.clock()) > 0;
  }

  /** The caller has its answer, or left. */
  leave(leaving: Leaving): void {
    const { reader, runs } = this;
    if (reader === undefined) return;
    this.reader = undefined;
    const remains = runs.store.leave(reader, leaving, this.call.context.clock());
    if (remains === 'linger') runs.schedule();
    else if (remains === 'abort') reader.entry.runner?.abandon();
  }
}

/**
 * The call joined a run that ended at the deadline of its own call, and has time left itself: it now runs the task, or
 * joins another call that does. It does so in a later turn, because the other call still holds its place.
 */
function runAgain(call: FollowingCall): void {
  queueMicrotask(() => {
    if (call.progress.isDone) return;
    call.role.stopFollowing();
    call.observeTask();
    call.runAgain();
  });
}

/** Whether the caller's deadline has passed, or it does not want the answer, or it may come back for it. */
export function callerLeft(call: CallWith<'context' | 'clock'>, { kind, code }: StreamFailure): Leaving {
  if (kind === 'reset' && code === ATTEMPT_COMES_BACK) return 'connection_lost';
  const gone = kind === 'reset' || kind === 'connection';
  if (gone && call.clock.callersTimeIsUp(call.context.clock())) return 'time_is_up';
  return kind === 'connection' ? 'connection_lost' : 'cancelled';
}
