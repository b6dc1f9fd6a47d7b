/** The response side of a call: sends the answer to the caller, and records it for others who sent the same task. */
import { MessageFraming } from '../grpc/message-framing.ts';
import type { StatusCode } from '../grpc/status.ts';
import { heldRequests } from '../http2/held-requests.ts';
import { type HeaderList, sizeOf } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { TaskObserver } from '../telemetry/task-stats.ts';
import { replyFields, sendLocalReply, TRAILERS_ONLY } from './local-reply.ts';
import type { LocalReply } from './reasons.ts';
import { encodingOf } from './response-info.ts';
import type { ResumableStream } from './resumable-stream.ts';
import type { TaskRun } from './task-run.ts';

/** The task that the call runs, if it runs one (`task-role.ts`). */
interface RunningRole {
  readonly run: TaskRun | undefined;
  endRun(): void;
}

/** Whether something was sent downstream (`call-progress.ts`). */
interface AnsweringProgress {
  readonly isAnswering: boolean;
  answer(): void;
}

interface AnsweredCall {
  readonly info: { readonly grpc: boolean };
  readonly role: RunningRole;
  readonly progress: AnsweringProgress;
  /** The answer begins: undefined where its caller can't come back for it. */
  beginResumable(): ResumableStream | undefined;
}

/** A caller that left needs no special case: its stream is closed and drops what it is given. */
export class CallResponse {
  /** Message bytes, including those that wait for the caller to read. */
  sentBytes = 0;
  readonly framing: MessageFraming | undefined;
  /** The caller, or a follower, was still waiting when the answer was complete. */
  wanted = true;
  /** Counts the task's outcome. */
  observer: TaskObserver | undefined = undefined;
  private stream: Stream;
  /** Of the bytes that wait for the caller, those that earn the running attempt no credit. */
  private staleBytes = 0;
  /** Where its caller can come back for the rest. */
  resumable: ResumableStream | undefined = undefined;
  private readonly role: RunningRole;
  private readonly progress: AnsweringProgress;
  private readonly call: AnsweredCall;

  constructor(stream: Stream, call: AnsweredCall) {
    this.stream = stream;
    this.call = call;
    this.role = call.role;
    this.progress = call.progress;
    this.framing = call.info.grpc ? new MessageFraming() : undefined;
  }

  /** The caller has come back on this stream. */
  moveTo(stream: Stream): void {
    this.stream = stream;
  }

  /**
   * So many of the bytes that wait earn the running attempt no credit: they came with one whose connection was lost, or were
   * sent before the caller came back.
   */
  noteStale(bytes: number): void {
    this.staleBytes = bytes;
  }

  get waitingBytes(): number {
    return this.stream.queue?.bytes ?? 0;
  }

  /** This many waiting bytes went out. @returns how many of them the running attempt has sent */
  owed(bytes: number): number {
    if (this.staleBytes === 0) return bytes;
    const stale = Math.min(bytes, this.staleBytes);
    this.staleBytes -= stale;
    return bytes - stale;
  }

  /** Bytes wait for the caller to read. */
  get waits(): boolean {
    return this.stream.queue !== undefined;
  }

  /** Sends an interim response to the caller alone, as it arrives (RFC 9110 §15.2). */
  sendInterim(list: HeaderList): void {
    this.stream.connection.sendHeaders(this.stream, list, undefined, false);
  }

  sendHead(list: HeaderList): void {
    this.progress.answer();
    this.observer?.onResponseHead(encodingOf(list));
    this.role.run?.onHead(list.fields);
    this.resumable ??= this.call.beginResumable();
    const own = this.resumable?.begin(list) ?? list;
    this.stream.connection.sendHeaders(this.stream, own, undefined, false);
  }

  /** @returns how many bytes are processed, as `Connection.sendData` does */
  sendData(buffer: Buffer, start: number, end: number, endStream: boolean): number {
    this.sentBytes += end - start;
    this.observer?.onResponseData(buffer, start, end);
    const { stream } = this;
    const { run } = this.role;
    if (run === undefined) return stream.connection.sendData(stream, buffer, start, end, endStream);
    run.onData(buffer, start, end);
    return run.send(stream, buffer, start, end, endStream);
  }

  /**
   * Sends trailers, or a Trailers-Only response; `extra` follows the list's fields.
   *
   * @param own the list for the caller where the full one is too large for it but not for the followers
   */
  sendEnd(list: HeaderList, status: StatusCode, extra: readonly string[] | undefined, own = list): void {
    this.progress.answer();
    this.resumable ??= this.call.beginResumable();
    if (this.role.run !== undefined)
      this.tellJoined(status, extra === undefined ? list.fields : list.fields.concat(extra));
    const { connection } = this.stream;
    // Our own fields must not push the list above the caller's limit.
    const fits = extra === undefined || own.listBytes + sizeOf(extra) <= connection.peer.maxHeaderListBytes;
    connection.sendHeaders(this.stream, own, fits ? extra : undefined, true);
  }

  /** Ends the call with an answer of the sidecar's own. */
  sendLocal(local: LocalReply, grpc: boolean, method: string): void {
    sendLocalReply(this.stream, local, grpc, this.progress.isAnswering, method);
    if (this.role.run !== undefined) this.endRun(local.status, replyFields(local));
  }

  /** The call is over: notifies the followers of its task, unless they already have the end. */
  close(status: StatusCode): void {
    if (this.role.run !== undefined) this.endRun(status, ['grpc-status', String(status)]);
    // Answer bytes that the caller does not read keep the call in memory.
    if (this.resumable?.isCut !== true) heldRequests.hold(this.stream);
  }

  private endRun(status: StatusCode, trailers: readonly string[]): void {
    const headless = this.role.run!.entry.head === undefined;
    this.tellJoined(status, headless ? [...TRAILERS_ONLY.fields, ...trailers] : trailers);
  }

  private tellJoined(status: StatusCode, trailers: readonly string[]): void {
    const { run } = this.role;
    this.role.endRun();
    this.wanted = run === undefined || run.entry.callers > 0;
    run?.onEnd(status, this.observer?.taskStatus ?? -1, trailers);
  }
}
