import { Timer } from '../clock/timer-wheel.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { MessageFraming } from '../grpc/message-framing.ts';
import { Status, type StatusCode, statusFromHttp, statusName } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { deadlineAtMs, deadlineOwner, timeLeftMs } from '../policy/deadline.ts';
import { PROCESS_TASK_PATH, type TaskKey } from '../task/task-message.ts';
import { type CallStats, OTHER_METHOD } from '../telemetry/call-stats.ts';
import type { TaskObserver } from '../telemetry/task-stats.ts';
import { type Attempt, type AttemptFailure, type AttemptOwner, statusOfFailure } from './attempt.ts';
import type { ProxyContext, ProxySettings } from './context.ts';
import { sendLocalReply } from './local-reply.ts';
import { isFailure, observeAnswer, observeDeadline, observeEnd } from './observation.ts';
import { type LocalReply, type Reason, reply } from './reasons.ts';
import { RequestBuffer } from './request-buffer.ts';
import { sendRequestHead } from './request-head.ts';
import type { RequestInfo } from './request-info.ts';
import { responseInfo } from './response-info.ts';

/** What a call asks of the pipeline that it runs through. */
export interface CallDriver {
  /** The first message is here, or can't be had. */
  onFirstMessage(call: Call): void;
  /** An attempt failed before anything was sent downstream, or the call ended with it. */
  onAttemptFailed(call: Call, attempt: Attempt, failure: AttemptFailure): void;
}

/**
 * One downstream RPC, from its first HEADERS to its last frame. It is the handler of the downstream stream and the
 * owner of the attempts; what to do next is decided in `pipeline.ts`.
 *
 *     begun ──▶ (awaiting the first message) ──▶ attempting ──response head──▶ answering ──▶ done
 *       │                    │                       │  ▲                        │
 *       └────────────────────┴── answered by us ─────┤  └── another attempt       │ cut, deadline, cancelled
 *                                                    └──────────────▶ done ◀──────┘
 */
export class Call extends Timer implements StreamHandler, AttemptOwner {
  readonly context: ProxyContext;
  readonly settings: ProxySettings;
  readonly driver: CallDriver;
  readonly stream: Stream;
  readonly list: HeaderList;
  readonly head: MessageHead;
  readonly info: RequestInfo;
  readonly startedAtMs: number;
  readonly request = new RequestBuffer();
  cluster: Cluster | undefined = undefined;
  task: TaskKey | undefined = undefined;
  attempt: Attempt | undefined = undefined;
  attempts = 0;
  deadlineMs = 0;
  configuredTimeoutMs = 0;
  awaitingMessage = false;
  /** Admitted: to be released at the end. */
  admitted = false;
  /** Something was sent downstream: no other attempt can be made. */
  responseStarted = false;
  done = false;
  status: StatusCode | -1 = -1;
  /** Set when the answer was ours. */
  reason: Reason | undefined = undefined;
  private requestEnded = false;
  private requestTrailers: HeaderList | undefined = undefined;
  private creditedBytes = 0;
  private readonly requestFraming: MessageFraming | undefined;
  private readonly responseFraming: MessageFraming | undefined;
  private readonly taskObserver: TaskObserver | undefined;

  constructor(
    context: ProxyContext,
    driver: CallDriver,
    stream: Stream,
    list: HeaderList,
    head: MessageHead,
    info: RequestInfo,
    endStream: boolean,
  ) {
    super();
    this.context = context;
    this.settings = context.settings;
    this.driver = driver;
    this.stream = stream;
    this.list = list;
    this.head = head;
    this.info = info;
    this.requestEnded = endStream;
    this.startedAtMs = context.clock();
    this.requestFraming = info.grpc ? new MessageFraming() : undefined;
    this.responseFraming = info.grpc ? new MessageFraming() : undefined;
    this.taskObserver = head.path === PROCESS_TASK_PATH ? context.tasks?.observe(context.name) : undefined;
    context.stats.activeCalls++;
    context.stats.totalCalls++;
  }

  /** Starts the call's clock; a second call moves it. */
  limitTime(configuredTimeoutMs: number): void {
    this.configuredTimeoutMs = configuredTimeoutMs;
    this.deadlineMs = deadlineAtMs(this.startedAtMs, this.info.timeoutMs, configuredTimeoutMs);
    if (this.deadlineMs > 0) this.context.wheel.arm(this, this.deadlineMs);
    else this.context.wheel.cancel(this);
  }

  override onTimeout(nowMs: number): void {
    const owner = deadlineOwner(this.info.timeoutMs, this.configuredTimeoutMs);
    const whose =
      owner === 'caller'
        ? "the caller's grpc-timeout"
        : `the configured timeout of ${this.configuredTimeoutMs} ms`;
    const ranOut = `${whose} ran out after ${Math.round(nowMs - this.startedAtMs)} ms`;
    const { attempt, stream } = this;
    if (this.done) {
      // The answer is complete but its reader does not take it: the deadline is for that too.
      const late = reply('deadline', `${ranOut}, waiting for the caller to read`);
      if (!stream.closed) sendLocalReply(stream, late, this.info.grpc, true, this.head.method);
      return;
    }
    const where = attempt === undefined ? '' : `, waiting for ${attempt.endpoint.address}`;
    attempt?.cancel(Status.DEADLINE_EXCEEDED);
    if (attempt !== undefined && !attempt.answered) observeDeadline(attempt, nowMs, owner === 'caller');
    this.answer(reply('deadline', ranOut + where));
  }

  /** Time the call has left; Infinity without a deadline. */
  timeLeftMs(nowMs: number): number {
    return timeLeftMs(this.deadlineMs, nowMs);
  }

  /** Everything the caller has sent so far is still here, so that another attempt can send it too. */
  get replayable(): boolean {
    return this.request.whole;
  }

  /** The caller has sent all it will send. */
  get requestComplete(): boolean {
    return this.requestEnded;
  }

  // --- The downstream stream -------------------------------------------------------------------------------

  onHeaders(_stream: Stream, list: HeaderList, _head: MessageHead): void {
    if (this.done) return;
    this.requestTrailers = list;
    this.requestEnded = true;
    if (this.awaitingMessage) this.driver.onFirstMessage(this);
    else if (this.attempt?.stream !== undefined)
      this.attempt.stream.connection.sendHeaders(this.attempt.stream, list, undefined, true);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.done) return end - start;
    const { requestFraming, settings } = this;
    if (
      requestFraming !== undefined &&
      !requestFraming.advance(buffer, start, end, settings.maxMessageBytes)
    ) {
      this.tooLarge('request', requestFraming.messageBytes);
      return end - start;
    }
    this.requestEnded = endStream;
    const attempt = this.attempt;
    if (attempt?.stream === undefined) {
      this.request.add(buffer, start, end);
      if (this.awaitingMessage) this.driver.onFirstMessage(this);
      // What is kept for an attempt to come is held against the stream's window: nothing is given back yet.
      return 0;
    }
    this.keep(buffer, start, end);
    attempt.send(buffer, start, end, endStream);
    return this.credit(attempt);
  }

  /** Keeps bytes that are being sent, as long as another attempt could be made with them. */
  private keep(buffer: Buffer, start: number, end: number): void {
    if (!this.request.whole || this.responseStarted) return;
    if (this.request.bytes + end - start > this.cluster!.settings.retry.bufferBytes) this.request.drop();
    else this.request.add(buffer, start, end);
  }

  /** How many request bytes the caller may send in place of those that have gone out now. */
  private credit(attempt: Attempt): number {
    const bytes = attempt.sentBytes - this.creditedBytes;
    if (bytes <= 0) return 0;
    this.creditedBytes = attempt.sentBytes;
    return bytes;
  }

  onDataSent(stream: Stream, bytes: number): void {
    this.attempt?.consume(bytes);
    if (this.done && stream.queue === undefined) this.context.wheel.cancel(this);
  }

  /** The caller is gone: so is its attempt, at once. */
  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (this.done) {
      this.context.wheel.cancel(this);
      return;
    }
    this.attempt?.cancel(Status.CANCELLED);
    if (failure.kind === 'protocol') this.context.stats.reject('bad_request');
    this.finish(Status.CANCELLED);
  }

  // --- The attempt -----------------------------------------------------------------------------------------

  onStreamOpen(attempt: Attempt, stream: Stream): void {
    const { connection } = stream;
    const parts = this.request.parts;
    const last = this.requestTrailers === undefined && this.requestEnded;
    sendRequestHead(this, stream, last && parts.length === 0);
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i]!;
      attempt.send(part, 0, part.length, last && i === parts.length - 1);
    }
    if (this.requestTrailers !== undefined)
      connection.sendHeaders(stream, this.requestTrailers, undefined, true);
    if (this.request.bytes > this.cluster!.settings.retry.bufferBytes) this.request.drop();
    this.onRequestBytesSent(attempt);
  }

  onRequestBytesSent(attempt: Attempt): void {
    const bytes = this.credit(attempt);
    if (bytes > 0) this.stream.connection.consume(this.stream, bytes);
  }

  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    if (this.info.grpc && !responseInfo(list, head).grpc) {
      this.notGrpc(attempt, list, head);
      return;
    }
    this.commit();
    this.stream.connection.sendHeaders(this.stream, list, undefined, false);
  }

  /** The answer of a proxy or a web server (gRPC, "HTTP to gRPC Status Code Mapping"). */
  private notGrpc(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const status = statusFromHttp(head.status);
    attempt.cancel(status);
    this.settle(attempt, status);
    const { contentType = 'no content-type' } = responseInfo(list, head);
    const message = `${attempt.endpoint.address} answered HTTP ${head.status} (${contentType}), not gRPC`;
    this.answer({ reason: 'upstream_protocol', status, message });
  }

  private commit(): void {
    this.responseStarted = true;
    this.request.drop();
  }

  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const { stream, responseFraming } = this;
    if (!attempt.answered) observeAnswer(attempt, this.context.clock());
    if (responseFraming === undefined) {
      const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
      if (endStream) this.complete(attempt, Status.OK);
      return sent;
    }
    if (!responseFraming.advance(buffer, start, end, this.settings.maxMessageBytes)) {
      attempt.cancel(Status.RESOURCE_EXHAUSTED);
      this.tooLarge('response', responseFraming.messageBytes);
      return end - start;
    }
    this.taskObserver?.onResponseData(buffer, start, end);
    const sent = stream.connection.sendData(stream, buffer, start, end, false);
    if (endStream) this.cut(attempt);
    return sent;
  }

  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const { stream } = this;
    if (!this.info.grpc) {
      stream.connection.sendHeaders(stream, list, undefined, true);
      this.complete(attempt, Status.OK);
      return;
    }
    const { status, grpc } = responseInfo(list, head);
    if (status === -1) {
      if (grpc) this.cut(attempt);
      else this.notGrpc(attempt, list, head);
      return;
    }
    this.responseStarted = true;
    stream.connection.sendHeaders(stream, list, undefined, true);
    this.complete(attempt, status);
  }

  /** The response has ended in order: the caller has all of it, or it is queued for it. */
  private complete(attempt: Attempt, status: StatusCode): void {
    this.settle(attempt, status);
    const upstream = attempt.stream!;
    // Half of the RPC may still be open: the caller's part is not wanted any more.
    if (!upstream.closed && !upstream.localEnded) upstream.connection.reset(upstream, ErrorCode.CANCEL);
    this.stream.connection.stopReceiving(this.stream);
    this.finish(status);
  }

  /** A gRPC response without `grpc-status` is no answer, however clean its end looks. */
  private cut(attempt: Attempt): void {
    attempt.cancel(Status.UNAVAILABLE);
    this.settle(attempt, Status.UNAVAILABLE);
    this.answer(reply('stream_cut', `${attempt.endpoint.address} ended the response without a gRPC status`));
  }

  private settle(attempt: Attempt, status: StatusCode): void {
    attempt.end(status);
    observeEnd(attempt, status, this.context.clock());
  }

  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void {
    this.settle(attempt, statusOfFailure(failure));
    this.driver.onAttemptFailed(this, attempt, failure);
  }

  // --- Its end ---------------------------------------------------------------------------------------------

  private tooLarge(what: 'request' | 'response', bytes: number): void {
    const message = `a ${what} message has ${bytes} bytes; at most ${this.settings.maxMessageBytes} are allowed (inbound.max_message_bytes)`;
    this.attempt?.cancel(Status.CANCELLED);
    this.answer(reply('message_too_large', message));
  }

  /** Ends the call with an answer of the sidecar's own. */
  answer(local: LocalReply): void {
    if (this.done) return;
    this.attempt?.cancel(local.status);
    sendLocalReply(this.stream, local, this.info.grpc, this.responseStarted, this.head.method);
    this.reason = local.reason;
    this.context.stats.reject(local.reason);
    this.finish(local.status);
  }

  private finish(status: StatusCode): void {
    this.done = true;
    this.status = status;
    const { context, cluster } = this;
    // Bytes that wait for a slow reader keep their deadline; see onTimeout.
    if (this.stream.closed || this.stream.queue === undefined) context.wheel.cancel(this);
    this.request.drop();
    const { stats } = context;
    stats.activeCalls--;
    if (this.admitted) context.admission.release();
    if (isFailure(status)) stats.totalErrors++;
    if (cluster !== undefined) {
      cluster.activeCalls--;
      if (status === Status.OK && this.attempts > 1) cluster.count(cluster.retries, 'success');
      const calls = context.listener === 'inbound' ? stats.calls : cluster.calls;
      this.countDuration(status, calls);
    }
    this.taskObserver?.onEnd(status);
    context.observer?.onCallEnd(this);
  }

  private countDuration(status: StatusCode, calls: CallStats): void {
    const seconds = (this.context.clock() - this.startedAtMs) / 1000;
    const { info } = this;
    if (status === Status.UNIMPLEMENTED) {
      // Paths that nobody implements are counted together: they are the caller's invention.
      calls.of(OTHER_METHOD).record(status, seconds);
      return;
    }
    if (info.statsFrom !== calls || info.methodStats === undefined) {
      info.methodStats = calls.of(this.head.path);
      info.statsFrom = calls;
    }
    info.methodStats.record(status, seconds);
  }

  /** For logs. */
  get statusName(): string {
    return this.status === -1 ? '' : statusName(this.status);
  }
}
