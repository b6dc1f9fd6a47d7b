/** One try of a call at one endpoint: its stream, how far it came, and how it ended. */
import type { ConnectionWaiter } from '../cluster/connection/pool-types.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import { WatchedAttempt } from '../cluster/outlier/detector.ts';
import { type Arrows, move, type StateOf, statesOf } from '../errors/illegal-step.ts';
import {
  serverNumber,
  streamsResumeMs,
  tasksOnceEncodings,
  tasksOnceMaxBytes,
} from '../grpc/sidecar-settings.ts';
import { Status, type StatusCode } from '../grpc/status.ts';
import type { Connection } from '../http2/connection.ts';
import type { StreamFailure } from '../http2/errors.ts';
import { ErrorCode } from '../http2/frame.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import { type AttemptEnd, type EndKind, Progress, type TaskFailure } from '../policy/attempt-end.ts';
import type { DeadlineOwner } from '../policy/deadline.ts';
import { NotAgain } from '../policy/pushback.ts';
import { VERDICTS, type Verdict } from '../policy/verdicts.ts';
import type { OutcomeScanner } from '../task/outcome-scanner.ts';
import type { AttemptClock, AttemptClockName, ClockedAttempt } from './attempt-clock.ts';
import type { AttemptFailure, NoConnection } from './attempt-failure.ts';
import { encodingOf } from './response-info.ts';
import type { StreamResume } from './stream-resume.ts';

/** The call that an attempt works for. */
export interface AttemptOwner {
  /** The request's head. */
  readonly info: { readonly method: string };
  /** Size of the request's head, as its sender counts it (RFC 9113 §6.5.2). */
  readonly requestHeadBytes: number;
  /** It is a task without an id: only the process that got it first knows it again. */
  readonly isNameless: boolean;
  /** The stream is open: send the part of the request that has arrived. */
  onStreamOpen(attempt: Attempt, stream: Stream): void;
  /** An interim response (1xx); it says nothing about the final response. */
  onInterim(attempt: Attempt, list: HeaderList): void;
  onResponseHead(attempt: Attempt, list: HeaderList, head: MessageHead): void;
  /** Returns how many bytes are processed, as `StreamHandler.onData` does. */
  onResponseData(attempt: Attempt, buffer: Buffer, start: number, end: number, endStream: boolean): number;
  /** The response ended with these fields: trailers, or a Trailers-Only response. */
  onResponseEnd(attempt: Attempt, list: HeaderList, head: MessageHead): void;
  /** The endpoint has no free stream. Returns whether the attempt may move to an endpoint that has one. */
  mayMove(attempt: Attempt): boolean;
  onAttemptFailed(attempt: Attempt, failure: AttemptFailure): void;
  /** One of the attempt's own clocks expired. */
  onAttemptClock(attempt: Attempt, clock: AttemptClockName): void;
  onRequestBytesSent(attempt: Attempt): void;
  /** The attempt has found another process in place of the one that has the run. */
  onResumeRefused(attempt: Attempt): void;
}

/** `ended`: the sidecar cancelled it. `settled`: its end was judged. */
type AttemptState = 'waiting' | 'streaming' | 'ended' | 'settled';

/** The arrows of the drawing at {@link Attempt}. */
export const ATTEMPT_ARROWS: Arrows<AttemptState> = {
  waiting: ['streaming', 'ended', 'settled'],
  streaming: ['ended', 'settled'],
  ended: ['settled'],
  settled: [],
};

const STATE = statesOf(ATTEMPT_ARROWS);

/**
 * One try of a call at one endpoint.
 *
 *     waiting ──a connection has room──▶ streaming ──END_STREAM, reset, connection lost, GOAWAY──▶ settled
 *      │ │                                 │ cancelled                                              ▲  ▲
 *      │ └──cancelled──▶ ended ◀───────────┘                                                        │  │
 *      │                   └──judged────────────────────────────────────────────────────────────────┘  │
 *      └──no connection, or a clock expired────────────────────────────────────────────────────────────┘
 *
 * `failure.unprocessed` marks a stream that its peer provably never processed (REFUSED_STREAM, a GOAWAY below its id,
 * no connection at all). `next-attempt.ts` decides what follows.
 */
export class Attempt
  extends WatchedAttempt
  implements StreamHandler, ConnectionWaiter, AttemptEnd, ClockedAttempt
{
  readonly endpoint: Endpoint;
  /** 1 for the first attempt of a call. */
  readonly number: number;
  readonly startedAtMs: number;
  stream: Stream | undefined = undefined;
  /** The peer's limit of streams when this stream was opened. */
  private streamsAllowed = 0;
  /** The number of request bytes that have gone out. */
  sentBytes = 0;
  private state: StateOf<AttemptState> = STATE.waiting;
  /** Holds a place in the retry budget. */
  budgeted = false;
  /** Was sent beside running attempts, not after a failed one. */
  hedge = false;
  /** How it ended, for the policies (`policy/attempt-end.ts`). `settlement.ts` writes it. */
  kind: EndKind = 'cancelled';
  status: StatusCode = Status.CANCELLED;
  code = 0;
  unprocessed = false;
  streaming = true;
  answerOwed = true;
  deadlineOwner: DeadlineOwner = 'none';
  allowedMs = Number.POSITIVE_INFINITY;
  elapsedMs = 0;
  requestIrregular = false;
  peerReason = '';
  pushbackMs: number | undefined = undefined;
  notAgain: NotAgain = NotAgain.NOBODY;
  goingAway = false;
  taskFailure: TaskFailure = 'none';
  verdict: Verdict = VERDICTS.undecided;
  /** The verdict that the circuit receives. */
  circuitVerdict: Verdict = VERDICTS.undecided;
  /** The time of a stream's first verdict; 0 without one. */
  firstMessageAtMs = 0;
  clock: AttemptClock | undefined = undefined;
  /** The head of a unary response, held until its message or status arrives. Until then another attempt may follow. */
  heldHead: HeaderList | undefined = undefined;
  /** The loss of the stream whose rest the attempt asks for; undefined for one that sends the request. */
  readonly resume: StreamResume | undefined;
  /** What the head says of the run (`stream-names.ts`), by which its stream can be resumed; '' without it. */
  run = '';
  /** The stream on which the request was sent to this endpoint first. */
  first: Stream | undefined = undefined;
  /** When that stream was lost; 0 while it was not. */
  lostAtMs = 0;
  /** Reads TaskResponse.status of the answer, where it counts. */
  scanner: OutcomeScanner | undefined = undefined;
  private readonly owner: AttemptOwner;

  constructor(
    owner: AttemptOwner,
    endpoint: Endpoint,
    number: number,
    startedAtMs: number,
    resume?: StreamResume,
  ) {
    super(endpoint.watched);
    this.resume = resume;
    this.owner = owner;
    this.endpoint = endpoint;
    this.number = number;
    this.startedAtMs = startedAtMs;
  }

  /** It ended or was cancelled. */
  get ended(): boolean {
    return this.state === STATE.ended || this.state === STATE.settled;
  }

  /** Its end was judged. */
  get settled(): boolean {
    return this.state === STATE.settled;
  }

  /** `settlement.ts` judges the attempt, which has ended. */
  settle(): void {
    this.state = move(this.state, STATE.settled);
  }

  /** How far the attempt came. */
  get progress(): Progress {
    if (this.answered) return Progress.MESSAGE;
    if (this.stream !== undefined) return Progress.SENT;
    return this.endpoint.pool.connectionCount > 0 ? Progress.QUEUED : Progress.CONNECTING;
  }

  /** The request's path, without its query. */
  get method(): string {
    return this.owner.info.method;
  }

  /**
   * Whether the peer has lowered its limit of streams since this one was opened. It may refuse any stream that it had not
   * seen by then.
   */
  get limitLowered(): boolean {
    const { stream } = this;
    return stream !== undefined && stream.connection.peer.maxConcurrentStreams < this.streamsAllowed;
  }

  /** The attempt before, at the same endpoint, may have begun the run that this one asks for. */
  follow(before: Attempt): void {
    this.first = before.first;
    this.lostAtMs = before.lostAtMs === 0 ? before.startedAtMs + before.elapsedMs : before.lostAtMs;
  }

  start(): void {
    this.endpoint.attemptStarted();
    const connection = this.endpoint.pool.acquire(this);
    if (connection !== undefined) this.onConnection(connection);
  }

  onConnection(connection: Connection): void {
    // Read it from the latest connection: another process may now listen at the same address.
    this.endpoint.tasksOnceMaxBytes = tasksOnceMaxBytes(connection.peer);
    this.endpoint.tasksOnceEncodings = tasksOnceEncodings(connection.peer);
    const { maxHeaderListBytes } = connection.peer;
    if (this.owner.requestHeadBytes > maxHeaderListBytes) {
      // Some servers close the connection of a client that exceeds their limit, and end the calls of others with it.
      const said = `the request's header fields have ${this.owner.requestHeadBytes} bytes`;
      const message = `${said}, and ${this.endpoint.address} takes ${maxHeaderListBytes}; send fewer or shorter metadata`;
      this.onNoConnection('headers_too_large', message);
      return;
    }
    if (this.isElsewhere(connection)) {
      this.owner.onResumeRefused(this);
      return;
    }
    this.streamsAllowed = connection.peer.maxConcurrentStreams;
    this.state = move(this.state, STATE.streaming);
    this.stream = connection.openStream(this);
    this.owner.onStreamOpen(this, this.stream);
  }

  /** Whether another process has the address by now, which would take the request for a new task. */
  private isElsewhere({ peer }: Connection): boolean {
    if (this.resume !== undefined) return streamsResumeMs(peer) === 0;
    const { first, owner } = this;
    return (
      first !== undefined && owner.isNameless && serverNumber(first.connection.peer) !== serverNumber(peer)
    );
  }

  onNoConnection(reason: NoConnection['reason'], message: string): void {
    this.owner.onAttemptFailed(this, { kind: 'no-connection', reason, unprocessed: true, message });
  }

  onNoStreams(message: string): boolean {
    if (!this.owner.mayMove(this)) return false;
    this.onNoConnection('no_streams', message);
    return true;
  }

  /** Sends a piece of the request; the stream must be open. */
  send(buffer: Buffer, start: number, end: number, endStream: boolean): void {
    const stream = this.stream!;
    // Don't add in the same statement: sendData may flush queued bytes, and onDataSent then counts them during the
    // call.
    const sent = stream.connection.sendData(stream, buffer, start, end, endStream);
    this.sentBytes += sent;
  }

  /** Returns credit for response bytes that the downstream received after a wait. */
  consume(bytes: number): void {
    const { stream } = this;
    if (stream !== undefined) stream.connection.consume(stream, bytes);
  }

  /** Cancels the attempt: sends RST_STREAM to the endpoint at once. */
  cancel(code: number = ErrorCode.CANCEL): void {
    if (this.ended) return;
    this.state = move(this.state, STATE.ended);
    this.letGo(code);
  }

  /** Ends the stream of an attempt that was judged. */
  letGo(code: number): void {
    const { stream } = this;
    if (stream === undefined) this.endpoint.pool.cancel(this);
    else stream.connection.reset(stream, code);
  }

  /** The answer is complete, but the request may still be open: asks for no more of it. */
  stopSending(): void {
    const stream = this.stream!;
    if (stream.canSend) stream.connection.reset(stream, ErrorCode.CANCEL);
  }

  onClock(clock: AttemptClockName): void {
    if (!this.ended) this.owner.onAttemptClock(this, clock);
  }

  onHeaders(_stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    if (this.ended) return;
    if (endStream) this.owner.onResponseEnd(this, list, head);
    else if (head.status >= 200) {
      if (this.scanner !== undefined) this.scanner.encoding = encodingOf(list);
      this.owner.onResponseHead(this, list, head);
    } else this.owner.onInterim(this, list);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    if (this.ended) return end - start;
    return this.owner.onResponseData(this, buffer, start, end, endStream);
  }

  onDataSent(_stream: Stream, bytes: number): void {
    if (this.ended) return;
    this.sentBytes += bytes;
    this.owner.onRequestBytesSent(this);
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    if (!this.ended) this.owner.onAttemptFailed(this, failure);
  }
}
