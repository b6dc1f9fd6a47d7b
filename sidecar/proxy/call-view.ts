/** The facts of a call that observers and the app's own work read; the parts of the call keep them. */
import type { StatusCode } from '../grpc/status.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { Reason } from '../policy/reasons.ts';
import type { TaskKey } from '../task/task-message.ts';
import type { Attempt } from './attempt.ts';
import { isKnownMethod } from './call-accounting.ts';
import type { CallAttempts } from './call-attempts.ts';
import type { CallProgress } from './call-progress.ts';
import { type Caller, callerOf } from './caller.ts';
import type { ClusterWithPolicies } from './cluster-policies.ts';
import type { ProxyContext, ProxySettings } from './context.ts';
import type { InboundCall } from './inbound-call.ts';
import type { Lineage } from './lineage.ts';
import type { RequestInfo } from './request-info.ts';
import type { TaskFollower } from './task-follower.ts';
import type { TaskRole } from './task-role.ts';

/** It has no state: each of these is read from a part, when it is asked for, so that a report allocates nothing. */
export abstract class CallView {
  abstract readonly context: ProxyContext;
  abstract readonly settings: ProxySettings;
  abstract readonly stream: Stream;
  abstract readonly list: HeaderList;
  abstract readonly info: RequestInfo;
  abstract readonly role: Readonly<TaskRole>;
  abstract readonly progress: Readonly<CallProgress>;
  abstract readonly lineage: Readonly<Lineage>;
  abstract readonly cluster: ClusterWithPolicies | undefined;
  abstract readonly tries: Readonly<CallAttempts> | undefined;

  /** The running attempt, or the one that ended last. */
  get attempt(): Attempt | undefined {
    return this.tries?.current;
  }

  get attempts(): number {
    return this.tries === undefined ? 0 : this.tries.count;
  }

  get transparentRetries(): number {
    return this.tries === undefined ? 0 : this.tries.transparentRetries;
  }

  /** The inbound call that the app makes this outbound call for. */
  get owner(): InboundCall | undefined {
    return this.lineage.owner;
  }

  /** The attempts that hops above have made, of this call or of the one that the app makes it for. */
  get callersAttempts(): number {
    return Math.max(this.info.previousAttempts, this.owner?.info.previousAttempts ?? 0);
  }

  /** Known once the first message was read: for routing, balancing, de-duplication, or a trace. */
  get task(): TaskKey | undefined {
    return this.role.key;
  }

  get follower(): TaskFollower | undefined {
    return this.role.follower;
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

  /** Whether spans name the method, as metrics do. Callers could invent any number of names. */
  knowsMethod(status: StatusCode | -1, attempt: Attempt | undefined): boolean {
    return isKnownMethod(this, status, attempt);
  }

  /** The caller for places and rate limits. */
  get caller(): Caller {
    return callerOf(this.stream.connection);
  }

  /** The caller's certificate name; undefined without a certificate. */
  get callerIdentity(): string | undefined {
    return this.stream.connection.identity?.name;
  }

  /**
   * The scope of the task, and of the work that the app does for it (`caller-scope.ts`); '' where nothing identifies
   * the caller.
   */
  get callerScope(): string {
    const { onBehalf } = this.stream.connection;
    if (onBehalf !== undefined) return onBehalf.callerScope;
    return this.info.scopeBy(this.settings.scopeHeaders, this.callerIdentity ?? '');
  }

  /** What two calls have in common that may be the same task: the caller's scope, or what stands for it. */
  get runScope(): string {
    return this.stream.connection.onBehalf?.runScope ?? this.callerScope;
  }

  /** The token budget that the caller set for its task; -1 without one, or when the caller may not set one. */
  get tokenBudget(): number {
    return this.budgetOr(this.info.tokenBudget);
  }

  /** The same for money, in nano-dollars. */
  get moneyBudget(): number {
    return this.budgetOr(this.info.moneyBudget);
  }

  private budgetOr(budget: number): number {
    return budget < 0 || this.settings.mayBudget(this.stream.connection.identity) ? budget : -1;
  }

  get requestHeadBytes(): number {
    return this.list.listBytes;
  }

  /** False while the call waits for the sidecar: for its turn, for an endpoint, or for another call's answer. */
  get awaitsCaller(): boolean {
    return this.progress.isAwaitingMessage || this.progress.isDone;
  }
}
