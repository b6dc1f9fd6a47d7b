/** One downstream RPC: its parts, and the events that reach it from its caller. */
import type { StatusCode } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream, StreamHandler } from '../http2/streams.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';
import { isTaskPath, readTaskKey } from '../task/task-message.ts';
import type { TaskSubscriber } from '../task/task-store.ts';
import type { Attempt } from './attempt.ts';
import type { AttemptFailure } from './attempt-failure.ts';
import { CallAttempts } from './call-attempts.ts';
import { CallClock, type ClockedCall } from './call-clock.ts';
import type { CallDriver } from './call-driver.ts';
import { answerCall, finishCall } from './call-end.ts';
import { type AdmittedFacts, isAdmitted, isPlaced, type PlacedFacts } from './call-facts.ts';
import { CallProgress } from './call-progress.ts';
import { CallRequest } from './call-request.ts';
import { CallResponse } from './call-response.ts';
import { CallView } from './call-view.ts';
import type { CircuitTicket } from './circuit-ticket.ts';
import type { ClusterWithPolicies } from './cluster-policies.ts';
import type { ProxyContext } from './context.ts';
import {
  endForCaller,
  endForDeadline,
  endForOwner,
  endForReturn,
  endForSilence,
  endUnwanted,
  lingerAfterAnswer,
} from './early-end.ts';
import { noRoom } from './failure-reply.ts';
import { Lineage } from './lineage.ts';
import type { CallTrace } from './observed-call.ts';
import type { QueuePlace } from './queue-place.ts';
import type { LocalReply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import type { RequestInfo } from './request-info.ts';
import { relayRequestData, relayRequestTrailers } from './request-relay.ts';
import type { ResumableStream } from './resumable-stream.ts';
import type { TaskFollower } from './task-follower.ts';
import { TaskRole } from './task-role.ts';

/** A call that is assigned to a cluster. */
export type PlacedCall = Call & PlacedFacts;
/** A call that its circuit admitted: from here on it has attempts. */
export type AdmittedCall = Call & AdmittedFacts & { readonly tries: Readonly<CallAttempts> };

/**
 * One downstream RPC, from its first HEADERS frame to its last frame. It handles the downstream stream; `pipeline.ts` leads
 * it through its layers, and its attempts report to {@link CallAttempts}. Each part has the facts of one kind, and is their
 * only writer: `progress` has the states of the call.
 *
 * The types follow the layers. Only {@link placeIn} makes a placed call, and only {@link admitBy} an admitted one:
 *
 *     Call ──a cluster──▶ PlacedCall ──its place, its circuit──▶ AdmittedCall ──▶ attempts
 */
export class Call extends CallView implements StreamHandler, TaskSubscriber, ClockedCall {
  readonly context: ProxyContext;
  readonly settings: ProxyContext['settings'];
  stream: Stream;
  readonly list: HeaderList;
  readonly head: MessageHead;
  readonly info: RequestInfo;
  readonly startedAtMs: number;
  readonly request: CallRequest;
  readonly response: CallResponse;
  readonly clock: Readonly<CallClock>;
  readonly role: Readonly<TaskRole> = new TaskRole();
  readonly progress: Readonly<CallProgress> = new CallProgress();
  readonly lineage: Readonly<Lineage> = new Lineage();
  /** Undefined until the tracer decides whether to record the call; null when it is not recorded. */
  trace: CallTrace | null | undefined = undefined;
  place: QueuePlace | undefined = undefined;
  private placedIn: ClusterWithPolicies | undefined = undefined;
  private admittedBy: CircuitTicket | undefined = undefined;
  private admittedTries: Readonly<CallAttempts> | undefined = undefined;
  private readonly driver: CallDriver<Call, AdmittedCall>;

  constructor(
    context: ProxyContext,
    driver: CallDriver<Call, AdmittedCall>,
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
    this.request = new CallRequest(stream, info.grpc, endStream, context.keptRequests);
    this.startedAtMs = context.clock();
    this.clock = new CallClock(this);
    this.response = new CallResponse(stream, this);
    this.observeTask();
    context.stats.activeCalls++;
    context.stats.totalCalls++;
  }

  // --- The way through the layers --------------------------------------------------------------------------

  get cluster(): ClusterWithPolicies | undefined {
    return this.placedIn;
  }

  get circuit(): CircuitTicket | undefined {
    return this.admittedBy;
  }

  get tries(): Readonly<CallAttempts> | undefined {
    return this.admittedTries;
  }

  placeIn(cluster: ClusterWithPolicies): PlacedCall {
    this.placedIn = cluster;
    if (!isPlaced(this)) throw new TypeError('a call has no cluster after it got one');
    return this;
  }

  admitBy(this: PlacedCall, circuit: CircuitTicket): AdmittedCall {
    this.admittedBy = circuit;
    if (!isAdmitted(this)) throw new TypeError('a call has no circuit after it got one');
    this.admittedTries = new CallAttempts(this);
    return this;
  }

  /** Counts the outcome of the call's task for this agent when it ends. */
  observeTask(agent = this.context.name): void {
    const { context, info, response } = this;
    if (isTaskPath(info.method)) response.observer = context.tasks?.observe(agent, info.method);
  }

  /** Reads the task's ids from the first message once it is complete; with `partly`, from the part that has arrived. */
  readTask(partly: boolean): FirstMessage | undefined {
    const found = this.request.readFirst(this.info.encoding, partly);
    if (found !== undefined && found.unreadable !== 'unfinished' && this.role.key === undefined)
      this.role.identify(readTaskKey(found.buffer, found.start, found.end));
    return found;
  }

  /** Starts the call's clocks; a second call moves them. Who calls on behalf of others names the time limit itself. */
  limitTime(limits: TimeLimits): void {
    const limited = this.stream.connection.onBehalf === undefined ? limits : { ...limits, timeoutMs: 0 };
    this.clock.limit(limited, this.lineage.ownersDeadlineMs);
  }

  onAdmitted(this: PlacedCall): void {
    this.driver.onAdmitted(this);
  }

  // --- The downstream stream -------------------------------------------------------------------------------

  onHeaders(_stream: Stream, list: HeaderList, _head: MessageHead): void {
    if (!this.progress.isDone && !this.request.ended) relayRequestTrailers(this, list);
  }

  onData(_stream: Stream, buffer: Buffer, start: number, end: number, endStream: boolean): number {
    const { progress, request } = this;
    // A caller that has come back may send again what has arrived before.
    if (!progress.isDone && !request.ended) return relayRequestData(this, buffer, start, end, endStream);
    if (endStream && progress.isLingering) this.clock.stop();
    return end - start;
  }

  onFirstMessage(): void {
    this.driver.onFirstMessage(this);
  }

  onDataSent(stream: Stream, bytes: number): void {
    const { follower, run } = this.role;
    if (follower !== undefined) follower.pump();
    else {
      const fresh = this.response.owed(bytes);
      this.attempt?.consume(run?.owed(fresh) ?? fresh);
    }
    this.clock.onMovement();
    if (this.progress.isDone && stream.queue === undefined) {
      this.clock.stop();
      lingerAfterAnswer(this);
    }
  }

  onFailed(_stream: Stream, failure: StreamFailure): void {
    endForCaller(this, failure);
  }

  /**
   * Waiting bytes exceed the limit, and this call's caller holds most of them. No endpoint has seen the call, or all is
   * over.
   */
  onNoRoom(stream: Stream): void {
    if (this.progress.isDone) stream.connection.giveUp(stream);
    else this.answer(noRoom(this));
  }

  // --- A caller that comes back ----------------------------------------------------------------------------

  get resumable(): ResumableStream | undefined {
    return this.response.resumable;
  }

  set resumable(resumable: ResumableStream | undefined) {
    this.response.resumable = resumable;
  }

  beginResumable(): ResumableStream | undefined {
    return this.context.resumptions?.begin(this);
  }

  /** The connection was lost. Returns whether the caller may come back. */
  awaitReturn(): boolean {
    return this.context.resumptions?.awaitCaller(this) === true;
  }

  moveTo(stream: Stream): void {
    this.stream = stream;
    stream.handler = this;
    this.response.moveTo(stream);
  }

  onMoved(stream: Stream, bytes: number, againBytes: number): void {
    this.response.noteStale(againBytes);
    this.onDataSent(stream, bytes);
  }

  endReturn(): void {
    endForReturn(this);
  }

  // --- Its clocks, its task and its owner ------------------------------------------------------------------

  onTimeout(nowMs: number): void {
    endForDeadline(this, nowMs);
  }

  onIdle(): void {
    endForSilence(this);
  }

  onOwnerGone(late: boolean): void {
    endForOwner(this, late);
  }

  /** No caller waits for the task that this call runs. */
  abandon(): void {
    endUnwanted(this);
  }

  /** Another call runs, or has run, this call's task. */
  follow(follower: TaskFollower): void {
    this.role.follow(follower);
    this.progress.follow();
    this.response.observer = undefined;
    this.request.drop();
    this.limitTime(this.settings.timeLimits);
    // The call that runs the task has the clock for the app's silence.
    this.clock.stopIdle();
  }

  onTaskProgress(): void {
    this.role.follower?.pump();
  }

  runAgain(): void {
    this.progress.stopFollowing();
    this.driver.onRunAgain(this);
  }

  // --- Its attempts ----------------------------------------------------------------------------------------

  mayMove(this: AdmittedCall, attempt: Attempt): boolean {
    return this.driver.next.mayMove(this, attempt);
  }

  retries(this: AdmittedCall, attempt: Attempt): boolean {
    return this.driver.next.retries(this, attempt);
  }

  onRetryDue(this: AdmittedCall, failed: Attempt, sameEndpoint: boolean): void {
    this.driver.next.onRetryDue(this, failed, sameEndpoint);
  }

  hedge(this: AdmittedCall, running: readonly Attempt[], nowMs: number): boolean {
    return this.driver.starter.hedge(this, running, nowMs);
  }

  onResumeAnswer(this: AdmittedCall, attempt: Attempt, head: HeaderList | undefined): void {
    this.driver.next.resuming.onAnswer(this, attempt, head);
  }

  onResumeRefused(this: AdmittedCall, attempt: Attempt): void {
    this.driver.next.resuming.onRefused(this, attempt);
  }

  onFailure(this: AdmittedCall, attempt: Attempt, failure: AttemptFailure): void {
    this.driver.next.onAttemptFailed(this, attempt, failure);
  }

  // --- The end ---------------------------------------------------------------------------------------------

  completeAnswer(status: StatusCode): void {
    this.finish(status);
    lingerAfterAnswer(this);
  }

  /** Ends the call with an answer of the sidecar's own. */
  answer(reply: LocalReply): void {
    answerCall(this, reply);
  }

  finish(status: StatusCode): void {
    finishCall(this, status);
    this.resumable?.onCallEnd();
  }
}
