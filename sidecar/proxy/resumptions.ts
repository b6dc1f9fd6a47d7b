/** Lets callers come back for the rest of a stream whose connection was lost: the inbound side. */
import { Timer, type TimerWheel } from '../clock/timer-wheel.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import { heldRequests } from '../http2/held-requests.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { EndedStream } from '../task/ended-streams.ts';
import { sendLocalReply } from './local-reply.ts';
import { reply } from './reasons.ts';
import type { RequestInfo } from './request-info.ts';
import type { ResumableStream } from './resumable-stream.ts';
import { parseResume, type ResumeRequest, STREAM_HEADER } from './stream-names.ts';
import { isOf } from './task-runs.ts';

/** A call whose caller may come back. */
export interface ReturningCall {
  readonly stream: Stream;
  readonly streamName: string;
  readonly callerScope: string;
  readonly head: { readonly path: string };
  readonly progress: { readonly isAnswering: boolean; readonly isDone: boolean };
  /** Its part in the task; undefined for a call that can't be resumed. */
  readonly resumable: ResumableStream | undefined;
  /** The head of its answer, names and values in turn. */
  readonly answerHead: readonly string[] | undefined;
  /** Sends what follows over another stream. */
  moveTo(stream: Stream): void;
  /** Its caller did not come back in time. */
  endReturn(): void;
}

/** What a listener has for callers that come back. */
interface ResumptionEnvironment {
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly ended: { get(name: string): EndedStream | undefined };
  readonly stats: { reject(reason: string): void };
  /** How long a caller has to come back. */
  lingerMs(): number;
  /** The calls of the open connections. */
  calls(): Iterable<ReturningCall>;
}

interface Away {
  readonly call: ReturningCall;
  /** Until when its caller may come back; Infinity while it is there. */
  untilMs: number;
}

/**
 * The streams of tasks whose callers have lost their connections, or had lost them and are back. A stream has one name, that
 * of the HTTP/2 stream on which its call arrived, over whatever connection it continues.
 *
 *     open ──its connection is lost──▶ away ──the caller asks for the rest──▶ back ──…──▶ ended
 *      │                                │ ▲                                    │
 *      │                                │ └──────its connection is lost────────┘
 *      │                                └──tasks.linger──▶ given up, as a call whose caller has left
 *      └──the caller asks for the rest before we notice the loss──▶ back
 *
 * A caller gets the rest of its own stream alone: by its name, which nobody can guess, and with the same method and the same
 * scope as its call. A name that is not known here is refused, and never begins a run.
 */
export class Resumptions extends Timer {
  private readonly environment: ResumptionEnvironment;
  private readonly byName = new Map<string, Away>();

  constructor(environment: ResumptionEnvironment) {
    super();
    this.environment = environment;
  }

  /** The calls whose callers are away. */
  *away(): Generator<ReturningCall> {
    for (const { call, untilMs } of this.byName.values()) if (untilMs < Number.POSITIVE_INFINITY) yield call;
  }

  /** The call's connection was lost. @returns whether its caller may come back for the rest */
  await(call: ReturningCall): boolean {
    const { resumable, progress, streamName } = call;
    if (resumable === undefined || !progress.isAnswering || !resumable.canResume) return false;
    const lingerMs = this.environment.lingerMs();
    if (lingerMs <= 0) return false;
    resumable.cut();
    this.byName.set(streamName, { call, untilMs: this.environment.clock() + lingerMs });
    this.arm();
    return true;
  }

  private arm(): void {
    let dueMs = Number.POSITIVE_INFINITY;
    for (const { untilMs } of this.byName.values()) dueMs = Math.min(dueMs, untilMs);
    if (dueMs < Number.POSITIVE_INFINITY) this.environment.wheel.arm(this, dueMs);
    else this.environment.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    for (const [name, { call, untilMs }] of this.byName) {
      if (untilMs > nowMs) continue;
      this.byName.delete(name);
      call.endReturn();
    }
    this.arm();
  }

  /** The call is over. */
  forget(name: string): void {
    this.byName.delete(name);
  }

  /** The listener closes: no caller can come back. */
  stop(): void {
    this.environment.wheel.cancel(this);
    for (const [name, { call, untilMs }] of this.byName) {
      this.byName.delete(name);
      if (untilMs < Number.POSITIVE_INFINITY) call.endReturn();
    }
  }

  /**
   * Serves a request for the rest of a stream.
   *
   * @returns false when it is no such request
   */
  serve(stream: Stream, head: MessageHead, info: RequestInfo, callerScope: string, ends: boolean): boolean {
    if (info.resume === '' || !info.grpc || streamsResumeMs(stream.connection.peer) === 0) return false;
    heldRequests.pass(stream);
    const wanted = parseResume(info.resume);
    if (wanted === undefined || !ends || !this.resume(stream, wanted, { callerScope, head })) {
      this.environment.stats.reject('stream_cut');
      stream.unserved = true;
      const message =
        'this stream can not be resumed here: its run is over, or was never here; send the task again';
      sendLocalReply(stream, reply('stream_cut', message), true, false, head.method);
    }
    return true;
  }

  private resume(
    stream: Stream,
    wanted: ResumeRequest,
    by: { readonly callerScope: string; readonly head: MessageHead },
  ): boolean {
    const { name, byte } = wanted;
    const call = this.byName.get(name)?.call ?? this.callOf(wanted);
    if (call === undefined || call.progress.isDone) return this.sendEnd(stream, wanted, by);
    const { resumable } = call;
    if (call.callerScope !== by.callerScope || call.head.path !== by.head.path) return false;
    if (resumable === undefined || !call.progress.isAnswering) return false;
    if (!resumable.isCut) {
      if (!resumable.canResume) return false;
      // We have not noticed yet that its connection was lost.
      const before = call.stream;
      before.connection.reset(before, ErrorCode.CANCEL);
      resumable.cut();
      this.byName.set(name, { call, untilMs: this.environment.clock() + this.environment.lingerMs() });
      this.arm();
    }
    if (!resumable.canResume || !resumable.mayResumeAt(byte)) return false;
    this.byName.set(name, { call, untilMs: Number.POSITIVE_INFINITY });
    this.arm();
    call.moveTo(stream);
    sendHead(stream, call.answerHead, name);
    resumable.resumeAt(byte);
    return true;
  }

  /** The call that still has the connection on which it came. */
  private callOf({ name, connectionName, streamId }: ResumeRequest): ReturningCall | undefined {
    for (const call of this.environment.calls()) {
      const { connection, id } = call.stream;
      if (id === streamId && connection.name === connectionName && call.streamName === name) return call;
    }
    return undefined;
  }

  private sendEnd(
    stream: Stream,
    { name, byte }: ResumeRequest,
    by: { readonly callerScope: string; readonly head: MessageHead },
  ): boolean {
    const ended = this.environment.ended.get(name);
    if (ended?.head === undefined || !isOf(ended, by)) return false;
    const { from, log, end } = ended;
    if (byte < from || byte > log.length) return false;
    const { connection } = stream;
    ended.carrier = stream;
    sendHead(stream, ended.head, name);
    let at = byte;
    for (let bytes = log.read(at); bytes !== undefined; bytes = log.read(at)) {
      at += bytes.length;
      connection.sendData(stream, bytes, 0, bytes.length, false);
    }
    connection.sendHeaders(stream, new HeaderList([...end.trailers]), undefined, true);
    return true;
  }
}

function sendHead(stream: Stream, fields: readonly string[] | undefined, name: string): void {
  stream.connection.sendHeaders(stream, new HeaderList([...(fields ?? [])]), [STREAM_HEADER, name], false);
}
