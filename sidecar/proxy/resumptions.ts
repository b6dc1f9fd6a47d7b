/** Lets callers come back for the rest of a stream whose connection was lost: the inbound side. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import type { Stream } from '../http2/streams.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import type { RequestInfo } from './request-info.ts';
import { type Keeper, ResumableStream, type ReturningCall } from './resumable-stream.ts';
import type { Room } from './sent-tail.ts';
import {
  announcedStreamName,
  nextRunName,
  parseResume,
  parseStreamName,
  type StreamName,
} from './stream-names.ts';

/** The most ends at a time; older ones make room for younger ones. */
const ENDS_MAX = 1_024;
/** The part of the memory for answers that ends may take. */
const ENDS_SHARE = 1 / 4;

/** A call that may get such a stream. */
interface StreamingCall extends ReturningCall {
  readonly info: RequestInfo;
  readonly progress: { readonly isDone: boolean };
  resumable: ResumableStream | undefined;
}

/** What a listener has for callers that come back. */
interface ResumptionEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly stats: { reject(reason: string): void };
  /** The memory that tails share with the answers of tasks. */
  readonly room: Room & { readonly maxBytes: number };
  /** How long a caller has to come back; 0: none may. */
  lingerMs(): number;
  /** The call that came on this stream, while its connection is open. */
  callOf(name: StreamName): StreamingCall | undefined;
}

/** Who asks for a stream. */
interface Asker {
  readonly callerScope: string;
  readonly head: MessageHead;
}

/**
 * The streams of tasks that their callers may resume. A caller gets the rest of its own stream alone: by the name of the run,
 * which nobody can guess, and with the same method and the same scope as its call. A name that is not known here is refused,
 * and never begins a run.
 */
export class Resumptions extends Timer implements Keeper, Room {
  private readonly environment: ResumptionEnvironment;
  /** By the name of the run and, once it has lost its connection or has ended, by that of its first stream. */
  private readonly byName = new Map<string, ResumableStream>();
  /** Those whose connection was lost, the one that was lost first at the front. */
  private readonly cut = new Set<ResumableStream>();
  /** Those whose call is over, oldest first. */
  private readonly ended = new Set<ResumableStream>();
  private endedBytes = 0;

  constructor(environment: ResumptionEnvironment) {
    super();
    this.environment = environment;
  }

  get room(): Room {
    return this;
  }

  /** Ends give way to streams that run. */
  take(bytes: number): boolean {
    while (!this.environment.room.take(bytes)) {
      const [oldest] = this.ended;
      if (oldest === undefined) return false;
      oldest.giveUp();
    }
    return true;
  }

  give(bytes: number): void {
    this.environment.room.give(bytes);
  }

  /** The calls whose callers are away. */
  *away(): Generator<ReturningCall> {
    for (const { call } of this.cut) if (call !== undefined) yield call;
  }

  /** The numbers of what is kept. */
  get sizes() {
    const { byName, cut, ended, endedBytes } = this;
    return { names: byName.size, cut: cut.size, ended: ended.size, endedBytes };
  }

  /** Names the run of a call whose caller resumes streams. */
  begin(call: StreamingCall): ResumableStream | undefined {
    const { info, stream } = call;
    if (info.kind !== 'task_stream' || streamsResumeMs(stream.connection.peer) === 0) return undefined;
    if (this.environment.lingerMs() <= 0) return undefined;
    const resumable = new ResumableStream(nextRunName(), call, this);
    this.byName.set(resumable.name, resumable);
    return resumable;
  }

  /** The call's connection was lost. @returns whether its caller may come back for the rest */
  awaitCaller(call: StreamingCall): boolean {
    // A request that did not arrive completely can't be continued.
    if (!call.request.ended) return false;
    const { stream } = call;
    if (!call.progress.isDone) call.resumable ??= this.begin(call);
    const { resumable } = call;
    if (resumable === undefined || resumable.isOver) return false;
    this.nameFirst(resumable, stream);
    this.await(resumable);
    return true;
  }

  await(resumable: ResumableStream): void {
    resumable.park();
    this.leaveEnds(resumable);
    resumable.untilMs = this.environment.clock() + this.environment.lingerMs();
    this.cut.add(resumable);
    this.arm();
  }

  private nameFirst(resumable: ResumableStream, { connection, id }: Stream): void {
    if (resumable.firstStream !== '') return;
    resumable.firstStream = announcedStreamName(connection, id);
    this.byName.set(resumable.firstStream, resumable);
  }

  keepEnd(resumable: ResumableStream): void {
    this.leaveEnds(resumable);
    this.nameFirst(resumable, resumable.carrier);
    resumable.untilMs = this.environment.clock() + Math.max(this.environment.lingerMs(), 1);
    resumable.wasClosed = resumable.carrier.closed;
    this.ended.add(resumable);
    resumable.endBytes = resumable.heldBytes;
    this.endedBytes += resumable.endBytes;
    const { maxBytes } = this.environment.room;
    while (this.ended.size > ENDS_MAX || this.endedBytes > maxBytes * ENDS_SHARE) {
      const [oldest] = this.ended;
      oldest!.giveUp();
    }
    if (!this.armed) this.arm();
  }

  private leaveEnds(resumable: ResumableStream): void {
    if (this.ended.delete(resumable)) this.endedBytes -= resumable.endBytes;
  }

  forget(resumable: ResumableStream): void {
    this.leaveEnds(resumable);
    this.cut.delete(resumable);
    this.byName.delete(resumable.name);
    if (resumable.firstStream !== '') this.byName.delete(resumable.firstStream);
  }

  /** The listener closes: no caller can come back. */
  stop(): void {
    this.environment.wheel.cancel(this);
    for (const resumable of this.cut) this.endCut(resumable);
    for (const resumable of this.ended) resumable.giveUp();
  }

  private endCut(resumable: ResumableStream): void {
    const { call } = resumable;
    resumable.giveUp();
    call?.endReturn();
  }

  // --- Time ------------------------------------------------------------------------------------------------

  private arm(): void {
    const [cut] = this.cut;
    const [ended] = this.ended;
    const dueMs = Math.min(
      cut?.untilMs ?? Number.POSITIVE_INFINITY,
      ended?.untilMs ?? Number.POSITIVE_INFINITY,
    );
    if (dueMs < Number.POSITIVE_INFINITY) this.environment.wheel.arm(this, dueMs);
    else this.environment.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    for (const resumable of this.cut) {
      if (resumable.untilMs > nowMs) break;
      this.endCut(resumable);
    }
    for (const resumable of this.ended) {
      if (resumable.untilMs > nowMs) break;
      // Its reader may not have read all of it: its time begins when its stream has closed.
      if (resumable.wasClosed) resumable.giveUp();
      else this.keepEnd(resumable);
    }
    this.arm();
  }

  // --- Requests --------------------------------------------------------------------------------------------

  /**
   * Serves a request for the rest of a stream, or a task that has come before.
   *
   * @returns false when it is neither, and has to run
   */
  serve(stream: Stream, info: RequestInfo, by: Asker, ends: boolean): boolean {
    if (!info.grpc || streamsResumeMs(stream.connection.peer) === 0) return false;
    if (info.resume === '') return this.rejoin(stream, info.firstStream, by);
    const wanted = parseResume(info.resume);
    const found = wanted === undefined ? undefined : this.byName.get(wanted.name);
    const byte = wanted?.byte ?? 0;
    if (found !== undefined && ends && isOf(found, by)) this.goOn(stream, found, byte, by);
    else this.refuse(stream, by);
    return true;
  }

  /** The task was sent again, because the head of its answer has not arrived. */
  private rejoin(stream: Stream, firstStream: string, by: Asker): boolean {
    const found = this.byName.get(firstStream) ?? this.openOne(firstStream);
    if (found === undefined || !isOf(found, by)) return false;
    this.goOn(stream, found, 0, by);
    return true;
  }

  /** The stream whose connection we still take for open. */
  private openOne(firstStream: string): ResumableStream | undefined {
    const name = parseStreamName(firstStream);
    const call = name === undefined ? undefined : this.environment.callOf(name);
    if (call === undefined || call.progress.isDone || !call.request.ended) return undefined;
    call.resumable ??= this.begin(call);
    if (call.resumable !== undefined) this.nameFirst(call.resumable, call.stream);
    return call.resumable;
  }

  private goOn(stream: Stream, found: ResumableStream, byte: number, by: Asker): void {
    if (found.call?.request.ended === false || !found.mayResumeAt(byte)) {
      this.refuse(stream, by);
      return;
    }
    heldRequests.pass(stream);
    if (!found.isCut) found.parkOpen();
    this.cut.delete(found);
    found.resumeOn(stream, byte);
    if (found.call === undefined && !found.isOver && !found.isCut) this.keepEnd(found);
  }

  private refuse(stream: Stream, { head }: Asker): void {
    heldRequests.pass(stream);
    this.environment.stats.reject('stream_cut');
    stream.unserved = true;
    const message =
      'this stream can not be resumed here: its run is over, or was never here; send the task again';
    sendLocalReply(stream, reply('stream_cut', message), true, false, head.method);
  }
}

/** Whether the stream is that of this caller and method. */
function isOf({ callerScope, path }: ResumableStream, by: Asker): boolean {
  return callerScope === by.callerScope && path === by.head.path;
}
