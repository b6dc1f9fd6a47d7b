/** The parts of a call that other files may read and call, as types. */
import type { TimerWheel } from '../clock/timer-wheel.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';
import type { Stream } from '../http2/streams.ts';
import type { CallPathGuard } from '../policy/call-path.ts';
import type { TaskKey } from '../task/task-message.ts';
import type { Leaving } from '../task/task-store.ts';
import type { ListenerStats } from '../telemetry/call-stats.ts';
import type { Attempt } from './attempt.ts';
import type { CallTime } from './call-clock.ts';
import type { CallProgress } from './call-progress.ts';
import type { CallRequest } from './call-request.ts';
import type { CallResponse } from './call-response.ts';
import type { CircuitTicket } from './circuit-ticket.ts';
import type { ClusterWithPolicies, PolicyEvents } from './cluster-policies.ts';
import type { InboundCalls } from './inbound-calls.ts';
import type { Lineage } from './lineage.ts';
import type { CallObserver, CallTrace, CallTracer, ObservedCall } from './observed-call.ts';
import type { LocalReply } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';
import type { RequestInfo } from './request-info.ts';
import type { TaskRun } from './task-run.ts';

/** The objects that calls of one listener share, as others read it through a call: the lower part of `context.ts`. */
export interface CallContext {
  readonly listener: 'inbound' | 'outbound';
  readonly wheel: TimerWheel;
  readonly clock: () => number;
  readonly events: PolicyEvents;
  readonly stats: ListenerStats;
  /** The inbound calls that the app is working on. The inbound side writes them, the outbound side reads them. */
  readonly inboundCalls: InboundCalls;
  /** Prevents circles of agents: checks the path of inbound calls, and adds this agent's name to that of outbound calls. */
  readonly callPath: CallPathGuard;
  /** The agent's name, for metrics of tasks. */
  readonly name: string;
  readonly observer: CallObserver | undefined;
  /** Undefined when tracing is off. */
  readonly tracer: CallTracer | undefined;
}

/** The state that a call keeps about its attempts (`call-attempts.ts`). */
interface TriedFacts {
  readonly backoffStep: number;
  readonly unknownBefore: boolean;
  readonly severalEndpointsFailed: boolean;
  readonly lastFailure: LocalReply | undefined;
  readonly retryWait: { cancel(): void } | undefined;
  readonly hedging:
    | { readonly attempts: readonly Attempt[]; choose(attempt: Attempt): void; stop(): void }
    | undefined;
  /** The call was silent for too long while this attempt ran alone. */
  onAttemptClock(attempt: Attempt, clock: 'idle'): void;
}

/** As the call sees it (`task-follower.ts`). */
interface RoleOfFollower {
  leave(leaving: Leaving): void;
}

/**
 * Everything that other files read of a call. Each file that works on a call picks the fields that it reads from these,
 * and declares the fields that it writes beside its own code. `Call` has all of them, and none of these files knows
 * `Call`. The files that keep the fields document them.
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
  readonly moneyBudget: number;

  readonly cluster: ClusterWithPolicies | undefined;
  readonly circuit: CircuitTicket | undefined;

  readonly clock: CallTime;
  readonly progress: Readonly<CallProgress>;

  readonly attempt: Attempt | undefined;
  /** Undefined until the circuit has admitted the call. */
  readonly tries: TriedFacts | undefined;

  readonly lineage: Readonly<Lineage>;

  readonly task: TaskKey | undefined;
  /** Its part in that task (`task-role.ts`). */
  readonly role: { readonly follower: RoleOfFollower | undefined; readonly run: TaskRun | undefined };
  readonly trace: CallTrace | null | undefined;
}

/** The fields that a call has once it is assigned to a cluster. */
export interface PlacedFacts {
  readonly cluster: ClusterWithPolicies;
}

/** The fields that a call also has once its circuit admitted it. Only such calls have attempts. */
export interface AdmittedFacts extends PlacedFacts {
  readonly circuit: CircuitTicket;
  readonly tries: TriedFacts;
}

export function isPlaced<Given extends CallWith<'cluster'>>(call: Given): call is Given & PlacedFacts {
  return call.cluster !== undefined;
}

export function isAdmitted<Given extends CallWith<'cluster' | 'circuit'>>(
  call: Given,
): call is Given & AdmittedFacts {
  return call.circuit !== undefined;
}

/** The methods of a call that other files may call. */
interface CallActs {
  /** Ends the call with an answer of the sidecar's own. */
  answer(reply: LocalReply): void;
  /** An attempt failed and nothing was sent downstream. Returns true when another follows and the call continues. */
  retries(attempt: Attempt): boolean;
  /** Reads the task's ids from the first message once it is complete; with `partly`, from the part that has arrived. */
  readTask(partly: boolean): FirstMessage | undefined;
}

/** The view of a call for a file that reads these facts and calls these methods. */
export type CallWith<Fact extends keyof CallFacts, Act extends keyof CallActs = never> = Pick<
  CallFacts,
  Fact
> &
  Pick<CallActs, Act>;
