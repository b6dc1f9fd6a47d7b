// Calls and attempts for tests of observers, without a proxy.
import { Status } from '../../grpc/status.ts';
import { VERDICTS } from '../../policy/verdicts.ts';
import type { ObservedAttempt, ObservedCall } from '../../proxy/observed-call.ts';
import { PROCESS_TASK_PATH } from '../../task/task-message.ts';

type Writable<T> = { -readonly [K in keyof T]: T[K] };
export type CallChanges = Partial<Omit<ObservedCall, 'info' | 'head' | 'response'>> & {
  info?: Partial<ObservedCall['info']>;
  head?: Partial<ObservedCall['head']>;
  response?: Partial<ObservedCall['response']>;
};

/** A successful unary call, with these changes. */
export function callWith({ info, head, response, ...changes }: CallChanges = {}): Writable<ObservedCall> {
  const path = head?.path ?? PROCESS_TASK_PATH;
  return {
    context: { listener: 'inbound', name: 'research-agent', clock: () => 0 },
    head: { path, authority: 'writing-agent:8080', method: 'POST', ...head },
    info: { grpc: true, method: path, traceparent: '', tracestate: '', traceBinary: '', ...info },
    knowsMethod: (status) => status !== Status.UNIMPLEMENTED,
    list: { get: () => undefined },
    callerIdentity: undefined,
    startedAtMs: 100,
    callerGoneAtMs: 0,
    status: Status.OK,
    statusName: 'OK',
    reason: undefined,
    attempts: 1,
    transparentRetries: 0,
    cluster: { name: 'writing' },
    attempt: undefined,
    task: undefined,
    follower: undefined,
    owner: undefined,
    request: { framing: undefined },
    response: { sentBytes: 0, observer: undefined, ...response },
    trace: undefined,
    ...changes,
  };
}

/** A successful attempt, with these changes. */
export function attemptWith(changes: Partial<ObservedAttempt> = {}): ObservedAttempt {
  return {
    number: 1,
    endpoint: { address: '10.0.0.7:50051' },
    startedAtMs: 101,
    elapsedMs: 5,
    firstMessageAtMs: 0,
    kind: 'status',
    status: Status.OK,
    verdict: VERDICTS.ok,
    pushbackMs: undefined,
    peerReason: '',
    scanner: undefined,
    ...changes,
  };
}
