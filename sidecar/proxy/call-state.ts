import { Timer } from '../clock/timer-wheel.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { StatusCode } from '../grpc/status.ts';
import { statusName } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import {
  allowedMs,
  type DeadlineOwner,
  deadlineOwner,
  deadlineReached,
  idleTimeoutMs,
  type TimeLimits,
} from '../policy/deadline.ts';
import type { ModelFailure } from '../policy/model-failure.ts';
import { NotAgain } from '../policy/pushback.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Reservation } from '../policy/token-budget.ts';
import { isTaskPath, readTaskKey, type TaskKey } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import { isKnownMethod } from './call-accounting.ts';
import { CallAttempts } from './call-attempts.ts';
import { CallRequest } from './call-request.ts';
import { CallResponse } from './call-response.ts';
import { type Caller, callerOf } from './caller.ts';
import type { CircuitTicket } from './circuit-ticket.ts';
import type { ProxyContext, ProxySettings } from './context.ts';
import { noRoom } from './failure-reply.ts';
import { IdleClock } from './idle-clock.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import type { CallTrace } from './observed-call.ts';
import type { QueuePlace } from './queue-place.ts';
import type { LocalReply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import type { RequestInfo } from './request-info.ts';
import type { TaskFollower } from './task-follower.ts';

/** What a call is and what it remembers; what happens to it is in `call.ts`. */
export abstract class CallState<Driver> extends Timer {
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
  cluster: Cluster | undefined = undefined;
  task: TaskKey | undefined = undefined;
  /** Undefined until it is decided whether the call is recorded; null when it is not. */
  trace: CallTrace | null | undefined = undefined;
  readonly tries = new CallAttempts();
  /** Whom its answer tells not to try again: by what this hop, or an outbound call of the app's, has found. */
  notAgain: NotAgain = NotAgain.NOBODY;
  runningAt = -1;
  nonce = 0;
  /** The inbound call that the app makes this outbound one for. */
  owner: InboundCall | undefined = undefined;
  /** It says that it is made for a call that is over. */
  ownerless = false;
  /** The agents that its owner has come through; '' when that is not sure. */
  ownersPath = '';
  /** When the last of the calls that it may be made for is over; 0 where one of them has no deadline, or one is its owner. */
  ownersDeadlineMs = 0;
  dependents: Set<Dependent> | undefined = undefined;
  modelTokens = 0;
  modelFailure: ModelFailure | undefined = undefined;
  /** What the running attempt may use of its owner's token budget (`task-budget.ts`). */
  givenTokens: Reservation | undefined = undefined;
  /** The agents it has come through, this one included; '' when that is not known, or not asked. */
  callPath = '';
  /** Gets the answer of another call that runs the same task. */
  follower: TaskFollower | undefined = undefined;
  /** From when its circuit has let it in. */
  circuit: CircuitTicket | undefined = undefined;
  deadlineMs = 0;
  deadlineOwner: DeadlineOwner = 'none';
  /** From its beginning to its own deadline or the configured one, without what its owner has left; 0 is no limit. */
  allowedMs = 0;
  /** Undefined where silence has no limit. */
  idle: IdleClock | undefined = undefined;
  /** It is routed, and known again, by its first message, which has not come. */
  awaitingMessage = false;
  place: QueuePlace | undefined = undefined;
  done = false;
  /** It is done, and its caller has a moment to end its request. */
  lingering = false;
  /** What the caller got; -1 while it waits. */
  status: StatusCode | -1 = -1;
  /** When the caller had got that, or had left, where the call went on for others who have sent its task; otherwise 0. */
  callerGoneAtMs = 0;
  /** Set when the answer was ours. */
  reason: Reason | undefined = undefined;

  constructor(
    context: ProxyContext,
    driver: Driver,
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
    this.response = new CallResponse(stream, info.grpc);
    this.observeTask();
    context.stats.activeCalls++;
    context.stats.totalCalls++;
  }

  /** The outcome of its task is to be counted. */
  observeTask(): void {
    const {
      context,
      info: { method },
    } = this;
    if (isTaskPath(method)) this.response.observer = context.tasks?.observe(context.name, method);
  }

  /** The attempt that runs, or has ended last. */
  get attempt(): Attempt | undefined {
    return this.tries.current;
  }

  get attempts(): number {
    return this.tries.count;
  }

  get transparentRetries(): number {
    return this.tries.transparentRetries;
  }

  get responseStarted(): boolean {
    return this.response.started;
  }

  /** Who calls, by its certificate; undefined where it has shown none. */
  get callerIdentity(): string | undefined {
    return this.stream.connection.identity?.name;
  }

  /** Whether spans name the method that came, as metrics do: callers could invent more names than anybody can look through. */
  knowsMethod(status: StatusCode | -1, attempt: Attempt | undefined): boolean {
    return isKnownMethod(this, status, attempt);
  }

  get requestHeadBytes(): number {
    return this.list.listBytes;
  }

  /** Whose places it takes, and whose rate is limited. */
  get caller(): Caller {
    return callerOf(this.stream.connection);
  }

  /** Whose task it is, and whose work the app does for it (`caller-scope.ts`); '' where nothing tells. */
  get callerScope(): string {
    return this.info.scopeBy(this.settings.scopeHeaders, this.callerIdentity ?? '');
  }

  /** Tokens that its task may use, as its caller says; -1 without such a budget, or from a caller that may set none. */
  get tokenBudget(): number {
    const { tokenBudget } = this.info;
    if (tokenBudget < 0 || this.settings.mayBudget(this.stream.connection.identity)) return tokenBudget;
    return -1;
  }

  /** Attempts that hops above have made: of this call, or of the one that the app makes it for. */
  get callersAttempts(): number {
    return Math.max(this.info.previousAttempts, this.owner?.info.previousAttempts ?? 0);
  }

  /** Reads the task's ids from the first message, once it is there; `partly`: from what there is of it. */
  readTask(partly: boolean): FirstMessage | undefined {
    const found = this.request.readFirst(this.info.encoding, partly);
    if (found !== undefined && found.unreadable !== 'unfinished')
      this.task ??= readTaskKey(found.buffer, found.start, found.end);
    return found;
  }

  /** Starts the call's clocks; a second call moves them. */
  limitTime(limits: TimeLimits): void {
    const { info, owner } = this;
    const allowed = allowedMs(info.timeoutMs, limits, info.kind);
    this.allowedMs = allowed;
    this.deadlineMs = allowed === 0 ? 0 : this.startedAtMs + allowed;
    this.deadlineOwner = deadlineOwner(info.timeoutMs, allowed);
    const ownersMs = owner?.deadlineMs ?? this.ownersDeadlineMs;
    if (ownersMs > 0 && (this.deadlineMs === 0 || ownersMs < this.deadlineMs)) {
      this.deadlineMs = ownersMs;
      this.deadlineOwner = 'inbound';
    }
    if (this.deadlineMs > 0) this.context.wheel.arm(this, this.deadlineMs);
    else this.context.wheel.cancel(this);
    this.limitSilence(idleTimeoutMs(limits, info.kind));
  }

  /** Its caller's time is up, and bounds it no more: it runs its task for others. */
  liftDeadline(): void {
    this.deadlineMs = 0;
    this.deadlineOwner = 'none';
  }

  private limitSilence(idleMs: number): void {
    if (idleMs > 0) {
      this.idle ??= new IdleClock(this, this.context.wheel);
      this.idle.start(idleMs, this.context.clock());
    } else this.idle?.stop();
  }

  abstract answer(reply: LocalReply): void;

  /** Too much waits here, and most of it is of this call's caller. No endpoint has seen the call, or all is over. */
  onNoRoom(stream: Stream): void {
    if (this.done) stream.connection.giveUp(stream);
    else this.answer(noRoom(this));
  }

  /** Otherwise it waits for its turn here, for an endpoint, or for another call's answer. */
  get awaitsCaller(): boolean {
    return this.awaitingMessage || this.done;
  }

  /** Neither side has sent anything for as long as the clock says. */
  abstract onIdle(): void;

  /**
   * Whether its time is over for the caller, too: a caller's own deadline, and that of the call its app answers, strike
   * where they were set a moment before ours. A configured timeout is known to nobody but us.
   */
  callersTimeIsUp(nowMs: number): boolean {
    const { deadlineMs, deadlineOwner, startedAtMs } = this;
    if (deadlineOwner !== 'caller' && deadlineOwner !== 'inbound') return false;
    return deadlineReached(nowMs - startedAtMs, deadlineMs - startedAtMs);
  }

  get statusName(): string {
    return this.status === -1 ? '' : statusName(this.status);
  }
}
