/** The state of one downstream call; `call.ts` has its behaviour. */
import type { StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Reason } from '../policy/reasons.ts';
import type { TimeLimits } from '../policy/time-limit-settings.ts';
import { isTaskPath, readTaskKey, type TaskKey } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import { isKnownMethod } from './call-accounting.ts';
import { CallAttempts } from './call-attempts.ts';
import { CallClock, type ClockedCall } from './call-clock.ts';
import { CallProgress } from './call-progress.ts';
import { CallRequest } from './call-request.ts';
import { CallResponse } from './call-response.ts';
import { type Caller, callerOf } from './caller.ts';
import type { CircuitTicket } from './circuit-ticket.ts';
import type { ClusterWithPolicies } from './cluster-policies.ts';
import type { ProxyContext, ProxySettings } from './context.ts';
import { noRoom } from './failure-reply.ts';
import type { InboundCall } from './inbound-call.ts';
import { Lineage } from './lineage.ts';
import type { CallTrace } from './observed-call.ts';
import type { QueuePlace } from './queue-place.ts';
import type { LocalReply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import type { RequestInfo } from './request-info.ts';
import type { TaskFollower } from './task-follower.ts';
import { TaskRole } from './task-role.ts';

export abstract class CallState<Driver> implements ClockedCall {
  readonly context: ProxyContext;
  readonly settings: ProxySettings;
  readonly driver: Driver;
  readonly stream: Stream;
  readonly list: HeaderList;
  readonly head: MessageHead;
  readonly info: RequestInfo;
  readonly startedAtMs: number;
  readonly request: CallRequest;
  readonly response: CallResponse;
  readonly clock: Readonly<CallClock>;
  cluster: ClusterWithPolicies | undefined = undefined;
  readonly role: Readonly<TaskRole> = new TaskRole();
  readonly progress: Readonly<CallProgress> = new CallProgress();
  /** Undefined until the tracer decides whether to record the call; null when it is not recorded. */
  trace: CallTrace | null | undefined = undefined;
  readonly tries = new CallAttempts();
  readonly lineage: Readonly<Lineage> = new Lineage();
  /** Set once the circuit has admitted the call. */
  circuit: CircuitTicket | undefined = undefined;
  place: QueuePlace | undefined = undefined;

  constructor(
    context: ProxyContext,
    driver: Driver,
    stream: Stream,
    list: HeaderList,
    head: MessageHead,
    info: RequestInfo,
    endStream: boolean,
  ) {
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
    this.response = new CallResponse(stream, info.grpc, this.role, this.progress);
    this.observeTask();
    context.stats.activeCalls++;
    context.stats.totalCalls++;
  }

  /** Counts the outcome of the call's task when it ends. */
  observeTask(): void {
    const {
      context,
      info: { method },
    } = this;
    if (isTaskPath(method)) this.response.observer = context.tasks?.observe(context.name, method);
  }

  /** The running attempt, or the one that ended last. */
  get attempt(): Attempt | undefined {
    return this.tries.current;
  }

  /** The inbound call that the app makes this outbound call for. */
  get owner(): InboundCall | undefined {
    return this.lineage.owner;
  }

  /** Known once the first message was read: for routing, balancing, de-duplication, or a trace. */
  get task(): TaskKey | undefined {
    return this.role.key;
  }

  get follower(): TaskFollower | undefined {
    return this.role.follower;
  }

  get attempts(): number {
    return this.tries.count;
  }

  get transparentRetries(): number {
    return this.tries.transparentRetries;
  }

  get status(): StatusCode | -1 {
    return this.progress.status;
  }

  get statusName(): string {
    return this.progress.statusName;
  }

  get callerGoneAtMs(): number {
    return this.progress.callerGoneAtMs;
  }

  get reason(): Reason | undefined {
    return this.progress.reason;
  }

  /** The caller's certificate name; undefined without a certificate. */
  get callerIdentity(): string | undefined {
    return this.stream.connection.identity?.name;
  }

  /** Whether spans name the method, as metrics do. Callers could invent any number of names. */
  knowsMethod(status: StatusCode | -1, attempt: Attempt | undefined): boolean {
    return isKnownMethod(this, status, attempt);
  }

  get requestHeadBytes(): number {
    return this.list.listBytes;
  }

  /** The caller for places and rate limits. */
  get caller(): Caller {
    return callerOf(this.stream.connection);
  }

  /**
   * The scope of the task, and of the work that the app does for it (`caller-scope.ts`); '' where nothing identifies
   * the caller.
   */
  get callerScope(): string {
    return this.info.scopeBy(this.settings.scopeHeaders, this.callerIdentity ?? '');
  }

  /** The token budget that the caller set for its task; -1 without one, or when the caller may not set one. */
  get tokenBudget(): number {
    const { tokenBudget } = this.info;
    if (tokenBudget < 0 || this.settings.mayBudget(this.stream.connection.identity)) return tokenBudget;
    return -1;
  }

  /** The attempts that hops above have made, of this call or of the one that the app makes it for. */
  get callersAttempts(): number {
    return Math.max(this.info.previousAttempts, this.owner?.info.previousAttempts ?? 0);
  }

  /** Reads the task's ids from the first message once it is complete; with `partly`, from the part that has arrived. */
  readTask(partly: boolean): FirstMessage | undefined {
    const found = this.request.readFirst(this.info.encoding, partly);
    if (found !== undefined && found.unreadable !== 'unfinished' && this.role.key === undefined)
      this.role.identify(readTaskKey(found.buffer, found.start, found.end));
    return found;
  }

  /** Starts the call's clocks; a second call moves them. */
  limitTime(limits: TimeLimits): void {
    this.clock.limit(limits, this.lineage.ownersDeadlineMs);
  }

  abstract answer(reply: LocalReply): void;

  /**
   * Waiting bytes exceed the limit, and this call's caller holds most of them. No endpoint has seen the call, or all is
   * over.
   */
  onNoRoom(stream: Stream): void {
    if (this.progress.isDone) stream.connection.giveUp(stream);
    else this.answer(noRoom(this));
  }

  /** False while the call waits for the sidecar: for its turn, for an endpoint, or for another call's answer. */
  get awaitsCaller(): boolean {
    return this.progress.isAwaitingMessage || this.progress.isDone;
  }

  abstract onTimeout(nowMs: number): void;

  abstract onIdle(): void;
}
