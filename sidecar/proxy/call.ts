import { Timer } from '../clock/timer-wheel.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { MessageFraming } from '../grpc/message-framing.ts';
import { Status, type StatusCode, statusFromHttp, statusName } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import type { EndKind } from '../policy/attempt-end.ts';
import type { CircuitBreaker } from '../policy/circuit-breaker.ts';
import type { CircuitAdmission, CircuitTransition } from '../policy/circuit-state.ts';
import { deadlineAtMs } from '../policy/deadline.ts';
import { PROCESS_TASK_PATH, type TaskKey } from '../task/task-message.ts';
import type { TaskObserver } from '../telemetry/task-stats.ts';
import {
  type Attempt,
  type AttemptFailure,
  type AttemptOwner,
  endKindOf,
  statusOfFailure,
} from './attempt.ts';
import { AttemptClock, type AttemptClockName } from './attempt-clock.ts';
import { countCall } from './call-accounting.ts';
import { CallRequest } from './call-request.ts';
import { policiesOf } from './cluster-policies.ts';
import type { ProxyContext, ProxySettings } from './context.ts';
import { ranOutAfter, replyToClock, replyToNotGrpc } from './failure-reply.ts';
import { sendLocalReply } from './local-reply.ts';
import { type LocalReply, type Reason, reply } from './reasons.ts';
import { sendRequestHead } from './request-head.ts';
import type { RequestInfo } from './request-info.ts';
import { type ResponseInfo, responseInfo } from './response-info.ts';
import type { RetryWait } from './retrying.ts';
import { awaitAnswer, keepAwake, settleAttempt, settleCircuit, settleFirstMessage } from './settlement.ts';

/** What a call asks of the pipeline that it runs through. */
export interface CallDriver {
  /** The first message is here, or can't be had. */
  onFirstMessage(call: Call): void;
  /** An attempt failed before anything was sent downstream, or the call ended with it. */
  onAttemptFailed(call: Call, attempt: Attempt, failure: AttemptFailure): void;
  /** An attempt has ended badly and nothing was sent downstream. True: another follows, and the call goes on. */
  retries(call: Call, attempt: Attempt): boolean;
}

const NEVER_RETRY: readonly string[] = ['grpc-retry-pushback-ms', '-1'];

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
  readonly request: CallRequest;
  cluster: Cluster | undefined = undefined;
  task: TaskKey | undefined = undefined;
  attempt: Attempt | undefined = undefined;
  attempts = 0;
  /** Of the attempts, those that followed one which was provably never processed. */
  transparentRetries = 0;
  /** Back-offs since the last pushback. */
  backoffStep = 0;
  /** An earlier attempt may have been processed. */
  unknownBefore = false;
  severalEndpointsFailed = false;
  /** This hop has done what can be done: those above are told not to try again. */
  retriesEnded = false;
  retryWait: RetryWait | undefined = undefined;
  /** What the caller is told when no other attempt follows. */
  lastFailure: LocalReply | undefined = undefined;
  breaker: CircuitBreaker | undefined = undefined;
  circuitAdmission: CircuitAdmission = 0;
  /** The circuit has had its first verdict. */
  circuitSettled = false;
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
  /** A unary response's head waits for its message or its status: until then another attempt can be made. */
  private heldHead: HeaderList | undefined = undefined;
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
    this.request = new CallRequest(info.grpc, endStream);
    this.startedAtMs = context.clock();
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
    const ranOut = ranOutAfter(this, nowMs);
    const { attempt, stream } = this;
    if (this.done) {
      // The answer is complete but its reader does not take it: the deadline is for that too.
      const late = reply('deadline', `${ranOut}, waiting for the caller to read`);
      if (!stream.closed) sendLocalReply(stream, late, this.info.grpc, true, this.head.method);
      return;
    }
    const where = attempt === undefined ? '' : `, waiting for ${attempt.endpoint.address}`;
    this.giveUp('deadline', Status.DEADLINE_EXCEEDED);
    this.answer(reply('deadline', ranOut + where));
  }

  /** Ends the attempt that runs, if any, and says why. */
  private giveUp(kind: EndKind, status: StatusCode): void {
    const { attempt } = this;
    if (attempt === undefined || attempt.ended) return;
    attempt.cancel();
    settleAttempt(this, attempt, kind, status, 0, undefined);
  }

  tellCircuit(transition: CircuitTransition | undefined): void {
    if (transition !== undefined) this.context.events.onCircuit(this.cluster!, this.head.path, transition);
  }

  clockOf(attempt: Attempt): AttemptClock {
    attempt.clock ??= new AttemptClock(attempt, this.context.wheel);
    return attempt.clock;
  }

  // --- The downstream stream -------------------------------------------------------------------------------

  onHeaders(_stream: Stream, list: HeaderList, _head: MessageHead): void {
    if (this.done) return;
    this.request.trailers = list;
    this.request.ended = true;
    if (this.awaitingMessage) this.driver.onFirstMessage(this);
    else if (this.attempt?.stream !== undefined && !this.attempt.ended)
      this.attempt.stream.connection.sendHeaders(this.attempt.stream, list, undefined, true);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.done) return end - start;
    const { request, settings } = this;
    const { framing } = request;
    if (framing !== undefined && !framing.advance(buffer, start, end, settings.maxMessageBytes)) {
      this.tooLarge('request', framing.messageBytes);
      return end - start;
    }
    request.ended = endStream;
    const attempt = this.attempt;
    if (attempt?.stream === undefined || attempt.ended) {
      request.add(buffer, start, end);
      if (this.awaitingMessage) this.driver.onFirstMessage(this);
      // What is kept for an attempt to come is held against the stream's window: nothing is given back yet.
      return 0;
    }
    if (!this.responseStarted) request.keep(buffer, start, end, this.cluster!.settings.retry.bufferBytes);
    attempt.send(buffer, start, end, endStream);
    if (endStream) awaitAnswer(this, attempt);
    keepAwake(this, attempt);
    return request.credit(attempt);
  }

  onDataSent(stream: Stream, bytes: number): void {
    this.attempt?.consume(bytes);
    keepAwake(this, this.attempt);
    if (this.done && stream.queue === undefined) this.context.wheel.cancel(this);
  }

  /** The caller is gone: so is its attempt, at once. */
  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (this.done) {
      this.context.wheel.cancel(this);
      return;
    }
    this.giveUp('cancelled', Status.CANCELLED);
    if (failure.kind === 'protocol') this.context.stats.reject('bad_request');
    if (failure.kind === 'stalled') this.context.stats.reject('overloaded');
    this.finish(failure.kind === 'stalled' ? Status.RESOURCE_EXHAUSTED : Status.CANCELLED);
  }

  // --- The attempt -----------------------------------------------------------------------------------------

  onStreamOpen(attempt: Attempt, stream: Stream): void {
    this.heldHead = undefined;
    sendRequestHead(this, stream, this.request.headOnly);
    this.request.sendTo(attempt, stream, this.cluster!.settings.retry.bufferBytes);
    if (this.request.ended) awaitAnswer(this, attempt);
    this.onRequestBytesSent(attempt);
  }

  onRequestBytesSent(attempt: Attempt): void {
    const bytes = this.request.credit(attempt);
    if (bytes > 0) this.stream.connection.consume(this.stream, bytes);
  }

  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    if (this.info.grpc && !responseInfo(list, head).grpc) {
      this.notGrpc(attempt, list, head);
      return;
    }
    if (this.holdsHead(attempt)) this.heldHead = list;
    else this.sendHead(list);
  }

  /** Servers that send the head before they know the outcome would otherwise rule out every retry of a unary call. */
  private holdsHead(attempt: Attempt): boolean {
    return (
      !attempt.streaming &&
      this.info.grpc &&
      this.request.whole &&
      policiesOf(this.cluster!).retry.maxAttempts > 1
    );
  }

  private sendHead(list: HeaderList): void {
    this.heldHead = undefined;
    this.commit();
    this.stream.connection.sendHeaders(this.stream, list, undefined, false);
  }

  /** The answer of a proxy or a web server (gRPC, "HTTP to gRPC Status Code Mapping"). */
  private notGrpc(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const status = statusFromHttp(head.status);
    attempt.cancel();
    settleAttempt(this, attempt, 'http_status', status, head.status, undefined);
    if (this.driver.retries(this, attempt)) return;
    this.answer(replyToNotGrpc(attempt, status, head.status, responseInfo(list, head).contentType));
  }

  private commit(): void {
    this.responseStarted = true;
    this.request.drop();
  }

  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const { stream, responseFraming } = this;
    // Servers that flush a head, or end without a status, may do it so: no message has begun.
    if (end === start && responseFraming !== undefined) {
      if (endStream) this.cut(attempt);
      return 0;
    }
    if (!attempt.answered) settleFirstMessage(this, attempt, this.context.clock());
    else keepAwake(this, attempt);
    if (this.heldHead !== undefined) this.sendHead(this.heldHead);
    if (responseFraming === undefined) {
      const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
      if (endStream) this.complete(attempt, Status.OK, undefined);
      return sent;
    }
    if (!responseFraming.advance(buffer, start, end, this.settings.maxMessageBytes)) {
      this.tooLarge('response', responseFraming.messageBytes);
      return end - start;
    }
    this.taskObserver?.onResponseData(buffer, start, end);
    attempt.scanner?.feed(buffer, start, end);
    const sent = stream.connection.sendData(stream, buffer, start, end, false);
    if (endStream) this.cut(attempt);
    return sent;
  }

  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void {
    const { stream } = this;
    if (!this.info.grpc) {
      stream.connection.sendHeaders(stream, list, undefined, true);
      this.complete(attempt, Status.OK, undefined);
      return;
    }
    const info = responseInfo(list, head);
    const { status } = info;
    if (status === -1) {
      if (info.grpc) this.cut(attempt);
      else this.notGrpc(attempt, list, head);
      return;
    }
    settleAttempt(this, attempt, 'status', status, 0, info);
    if (status !== Status.OK && !this.responseStarted && this.driver.retries(this, attempt)) {
      attempt.stopSending();
      return;
    }
    if (this.heldHead !== undefined) this.sendHead(this.heldHead);
    this.responseStarted = true;
    const extra = this.retriesEnded && info.pushbackMs === undefined ? NEVER_RETRY : undefined;
    stream.connection.sendHeaders(stream, list, extra, true);
    this.complete(attempt, status, info);
  }

  /** The response has ended in order: the caller has all of it, or it is queued for it. */
  private complete(attempt: Attempt, status: StatusCode, info: ResponseInfo | undefined): void {
    settleAttempt(this, attempt, 'status', status, 0, info);
    attempt.stopSending();
    this.stream.connection.stopReceiving(this.stream);
    this.finish(status);
  }

  /** A gRPC response without `grpc-status` is no answer, however clean its end looks. */
  private cut(attempt: Attempt): void {
    attempt.cancel();
    settleAttempt(this, attempt, 'no_status', Status.UNAVAILABLE, 0, undefined);
    if (this.driver.retries(this, attempt)) return;
    this.answer(reply('stream_cut', `${attempt.endpoint.address} ended the response without a gRPC status`));
  }

  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void {
    attempt.unprocessed = failure.unprocessed;
    const code = 'code' in failure ? failure.code : 0;
    settleAttempt(this, attempt, endKindOf(failure), statusOfFailure(failure), code, undefined);
    this.driver.onAttemptFailed(this, attempt, failure);
  }

  onAttemptClock(attempt: Attempt, clock: AttemptClockName): void {
    if (clock === 'idle' && this.stream.queue !== undefined) {
      // The caller does not read, so the endpoint may not send: the call's deadline is for that.
      attempt.clock!.restartIdle(this.context.clock());
      return;
    }
    attempt.cancel();
    settleAttempt(this, attempt, clock, Status.DEADLINE_EXCEEDED, 0, undefined);
    if (!this.driver.retries(this, attempt)) this.answer(replyToClock(attempt, clock));
  }

  // --- Its end ---------------------------------------------------------------------------------------------

  private tooLarge(what: 'request' | 'response', bytes: number): void {
    const message = `a ${what} message has ${bytes} bytes; at most ${this.settings.maxMessageBytes} are allowed (inbound.max_message_bytes)`;
    this.giveUp('own_limit', Status.RESOURCE_EXHAUSTED);
    this.answer(reply('message_too_large', message));
  }

  /** Ends the call with an answer of the sidecar's own. */
  answer(local: LocalReply): void {
    if (this.done) return;
    this.giveUp(local.reason === 'draining' ? 'shutdown' : 'own_limit', local.status);
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
    this.retryWait?.cancel();
    if (this.admitted) context.admission.release();
    if (cluster !== undefined) {
      settleCircuit(this);
      cluster.activeCalls--;
    }
    countCall(this, status);
    this.taskObserver?.onEnd(status);
    context.observer?.onCallEnd(this);
  }

  get statusName(): string {
    return this.status === -1 ? '' : statusName(this.status);
  }
}
