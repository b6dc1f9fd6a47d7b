/**
 * The facts that observers may read of a call and its attempts, and their interface. The proxy knows nothing else of traces,
 * access logs and records of failures. Observers read `Call` and `Attempt` in place, so that reporting a call allocates
 * nothing.
 */
import type { StatusCode } from '../grpc/status.ts';
import type { EndKind } from '../policy/attempt-end.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Verdict } from '../policy/verdicts.ts';
import type { Attributes } from '../telemetry/tracing/span.ts';

export interface ObservedAttempt {
  /** 1 for the first attempt of a call. */
  readonly number: number;
  readonly endpoint: { readonly address: string };
  readonly startedAtMs: number;
  readonly elapsedMs: number;
  /** When a stream's first message arrived; 0 without one. */
  readonly firstMessageAtMs: number;
  /** How the attempt ended. */
  readonly kind: EndKind;
  readonly status: StatusCode;
  readonly verdict: Verdict;
  readonly pushbackMs: number | undefined;
  /** Why the peer's sidecar answered in place of its app; '' when it did not. */
  readonly peerReason: string;
  /** Reads the outcome of the answer, where it counts. */
  readonly scanner:
    | { readonly seen: boolean; readonly status: number; readonly tokensUsed: number }
    | undefined;
}

/** A call whose trace others continue. Undefined: not decided yet. Null: not recorded. */
export interface TraceOwner {
  readonly trace: CallTrace | null | undefined;
}

export interface ObservedCall extends TraceOwner {
  readonly context: {
    readonly listener: 'inbound' | 'outbound';
    readonly name: string;
    readonly clock: () => number;
  };
  readonly head: { readonly path: string; readonly authority: string; readonly method: string };
  /** The request's header fields. */
  readonly list: { get(name: string): string | undefined };
  readonly info: {
    readonly grpc: boolean;
    /** The path without its query. */
    readonly method: string;
    /** The header fields of these names; '' without one. */
    readonly traceparent: string;
    readonly tracestate: string;
    readonly traceBinary: string;
  };
  /** Whether spans name the method. Callers could invent any number of other names. */
  knowsMethod(status: StatusCode | -1, attempt: ObservedAttempt | undefined): boolean;
  /** The caller's certificate name. */
  readonly callerIdentity: string | undefined;
  readonly startedAtMs: number;
  /** When its caller received the answer or left, if that was before the end of the call; otherwise 0. */
  readonly callerGoneAtMs: number;
  readonly status: StatusCode | -1;
  /** The name of the status; '' without one. */
  readonly statusName: string;
  /** Why the sidecar answered the call itself. */
  readonly reason: Reason | undefined;
  readonly attempts: number;
  readonly transparentRetries: number;
  readonly cluster: { readonly name: string } | undefined;
  /** The last attempt. */
  readonly attempt: ObservedAttempt | undefined;
  /** Known once the first message was read: for routing, balancing, de-duplication, or a trace. */
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** Set when the call receives the answer of another call of the same task. */
  readonly follower: object | undefined;
  /** The inbound call that the app makes this one for. */
  readonly owner: TraceOwner | undefined;
  readonly request: { readonly framing: { readonly bytes: number } | undefined };
  readonly response: {
    readonly sentBytes: number;
    readonly observer: { readonly taskStatus: number; readonly tokensUsed: number } | undefined;
  };
}

/** Observes the end of each call. Absent when there is no observer. */
export interface CallObserver {
  /** An attempt was judged; called for each attempt of a call. */
  onAttemptEnd?(call: ObservedCall, attempt: ObservedAttempt): void;
  onCallEnd(call: ObservedCall): void;
}

/** The trace of one recorded call. */
export interface CallTrace {
  readonly traceId: string;
  /** The call's own span: 64 bits in two halves, and as text. */
  readonly spanHigh: number;
  readonly spanLow: number;
  readonly spanId: string;
  readonly traceState: string;
  readonly traceFlags: number;
  /** Records an event of the call. */
  event(name: string, atMs: number, attributes?: Attributes): void;
  /** Records an event of the attempt that ends. */
  attemptEvent(name: string, atMs: number, attributes?: Attributes): void;
  /** The call receives another call's answer: links to that call's trace, if it is recorded. */
  follow(runner: CallTrace | null | undefined, how: 'joined' | 'replayed'): void;
  /** An attempt starts: gives `take` the id of the span that becomes the parent of the upstream's spans. */
  beginAttempt(call: ObservedCall, number: number, take: (high: number, low: number) => void): void;
  /** An attempt was judged. */
  endAttempt(call: ObservedCall, attempt: ObservedAttempt): void;
  /** The call is over. */
  end(call: ObservedCall, endedAtMs: number): void;
}

/** Decides which calls are recorded, and which trace context goes upstream. */
export interface CallTracer {
  /** Returns the call's trace, or null when it is not recorded. */
  begin(call: ObservedCall): CallTrace | null;
  /**
   * The trace context fields for upstream, which replace the received ones, encoded as literals that may follow any
   * header block. Undefined when the received ones are right. The next call overwrites the buffer, so use it at once.
   */
  fieldsFor(call: ObservedCall, attemptNumber: number): Buffer | undefined;
  /** Whether an attempt's context replaces the field of this name; undefined where only W3C's fields are written. */
  readonly replaces: ((name: string) => boolean) | undefined;
}
