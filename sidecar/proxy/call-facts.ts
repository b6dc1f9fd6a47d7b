import type { TimerWheel } from '../clock/timer-wheel.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { CallPathGuard } from '../policy/call-path.ts';
import type { DeadlineOwner } from '../policy/deadline.ts';
import type { ModelFailure } from '../policy/model-failure.ts';
import type { NotAgain } from '../policy/pushback.ts';
import type { TaskKey } from '../task/task-message.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import type { Attempt } from './attempt.ts';
import type { CallRequest } from './call-request.ts';
import type { CallResponse } from './call-response.ts';
import type { CircuitTicket } from './circuit-ticket.ts';
import type { PolicyEvents } from './cluster-policies.ts';
import type { Dependent, InboundCall } from './inbound-call.ts';
import type { InboundCalls } from './inbound-calls.ts';
import type { CallObserver, CallTrace, CallTracer, ObservedCall } from './observed-call.ts';
import type { LocalReply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import type { RequestInfo } from './request-info.ts';

/** What is read through a call of what its listener's calls share: the lower part of `context.ts`. */
export interface CallContext {
  readonly listener: 'inbound' | 'outbound';
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly events: PolicyEvents;
  readonly stats: ListenerStats;
  /** Those that the app is working on. The inbound side writes, the outbound side reads. */
  readonly inboundCalls: InboundCalls;
  /** Keeps agents from calling each other in circles: checks on the inbound side, names this agent on the outbound. */
  readonly callPath: CallPathGuard;
  /** Whose calls these are: the agent's name on metrics of tasks. */
  readonly name: string;
  readonly observer: CallObserver | undefined;
  /** Undefined when tracing is off. */
  readonly tracer: CallTracer | undefined;
}

/** What a call remembers of its attempts (`call-attempts.ts`). */
interface TriedFacts {
  readonly backoffStep: number;
  readonly unknownBefore: boolean;
  readonly severalEndpointsFailed: boolean;
  readonly lastFailure: LocalReply | undefined;
  readonly retryWait: object | undefined;
  readonly hedging: { readonly attempts: readonly Attempt[]; stop(): void } | undefined;
}

/**
 * All that others read of a call. Each file that does something for a call picks from these what it reads, and declares
 * beside that what it writes; `Call` has them all, and none of these files knows `Call`. What the fields mean stands where
 * they are kept.
 */
interface CallFacts extends ObservedCall {
  readonly context: CallContext;
  readonly settings: { readonly dropsCertificates: boolean; readonly maxMessageBytes: number };
  readonly stream: Stream;
  readonly list: HeaderList;
  readonly head: MessageHead;
  readonly info: RequestInfo;
  readonly request: CallRequest;
  readonly response: CallResponse;
  readonly requestHeadBytes: number;
  readonly callersAttempts: number;
  readonly tokenBudget: number;

  readonly cluster: Cluster | undefined;
  readonly circuit: CircuitTicket | undefined;

  readonly deadlineMs: number;
  readonly deadlineOwner: DeadlineOwner;
  readonly allowedMs: number;
  readonly awaitingMessage: boolean;

  readonly attempt: Attempt | undefined;
  readonly tries: TriedFacts;
  readonly responseStarted: boolean;

  readonly owner: InboundCall | undefined;
  readonly ownerless: boolean;
  readonly ownersPath: string;
  readonly dependents: Set<Dependent> | undefined;
  readonly callPath: string;
  readonly runningAt: number;
  readonly nonce: number;
  readonly notAgain: NotAgain;
  readonly modelFailure: ModelFailure | undefined;
  readonly modelTokens: number;

  readonly task: TaskKey | undefined;
  readonly trace: CallTrace | null | undefined;

  readonly done: boolean;
}

/** What a call has that was given to a cluster. */
export interface PlacedFacts {
  readonly cluster: Cluster;
}

/** What a call has that its circuit has let in, too: such a call has attempts, and others have none. */
export interface AdmittedFacts extends PlacedFacts {
  readonly circuit: CircuitTicket;
}

export function isAdmitted<Given extends CallWith<'cluster' | 'circuit'>>(
  call: Given,
): call is Given & AdmittedFacts {
  return call.circuit !== undefined;
}

/** What can be asked of a call, by those who may ask it. */
interface CallActs {
  /** Ends the call with an answer of the sidecar's own. */
  answer(reply: LocalReply): void;
  /** An attempt has ended badly and nothing was sent downstream. True: another follows, and the call goes on. */
  retries(attempt: Attempt): boolean;
  /** Reads the task's ids from the first message, once it is there; `partly`: from what there is of it. */
  readTask(partly: boolean): FirstMessage | undefined;
  /** Whether its time is over for the caller, too. */
  callersTimeIsUp(nowMs: number): boolean;
}

/** A call, of which a file reads these facts and does these acts. */
export type CallWith<Fact extends keyof CallFacts, Act extends keyof CallActs = never> = Pick<
  CallFacts,
  Fact
> &
  Pick<CallActs, Act>;
