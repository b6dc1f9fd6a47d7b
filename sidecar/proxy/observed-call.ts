/**
 * What others may read of a call and its attempts, and what they are asked of: the proxy knows no more of traces, access
 * logs and records of failures. `Call` and `Attempt` are read as they stand, so that telling of a call makes nothing.
 */
import type { StatusCode } from '../grpc/status.ts';
import type { EndKind } from '../policy/attempt-end.ts';
import type { Reason } from '../policy/reasons.ts';
import type { Verdict } from '../policy/verdicts.ts';
import type { Attributes } from '../telemetry/tracing/span.ts';

export interface ObservedAttempt {
  /** 1 for the first of a call. */
  readonly number: number;
  readonly endpoint: { readonly address: string };
  readonly startedAtMs: number;
  readonly elapsedMs: number;
  /** When a stream's first message came; 0 without one. */
  readonly firstMessageAtMs: number;
  /** How it ended. */
  readonly kind: EndKind;
  readonly status: StatusCode;
  readonly verdict: Verdict;
  readonly pushbackMs: number | undefined;
  /** Why the peer's sidecar answered in its app's place; '' when it did not. */
  readonly peerReason: string;
  /** Reads the answer's outcome, where it counts. */
  readonly scanner:
    | { readonly seen: boolean; readonly status: number; readonly tokensUsed: number }
    | undefined;
}

/** A call whose trace others go on with. Undefined: not decided yet. Null: not recorded. */
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
    /** The headers of these names; '' without one. */
    readonly traceparent: string;
    readonly tracestate: string;
    readonly traceBinary: string;
  };
  /** Whether spans name the method that came; of others there is no end. */
  knowsMethod(status: StatusCode | -1, attempt: ObservedAttempt | undefined): boolean;
  /** Who calls, by its certificate. */
  readonly callerIdentity: string | undefined;
  readonly startedAtMs: number;
  /** When its caller had its answer, or had left, before the call was over; otherwise 0. */
  readonly callerGoneAtMs: number;
  readonly status: StatusCode | -1;
  /** The status by name; '' without one. */
  readonly statusName: string;
  /** Why the sidecar answered itself. */
  readonly reason: Reason | undefined;
  readonly attempts: number;
  readonly transparentRetries: number;
  readonly cluster: { readonly name: string } | undefined;
  /** The last one. */
  readonly attempt: ObservedAttempt | undefined;
  /** Known when the first message was read: for routing, balancing, de-duplication, or a trace. */
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** Its answer was made for another call of the same task. */
  readonly follower: object | undefined;
  /** The inbound call that the app makes this one for. */
  readonly owner: TraceOwner | undefined;
  readonly request: { readonly framing: { readonly bytes: number } | undefined };
  readonly response: {
    readonly sentBytes: number;
    readonly observer: { readonly taskStatus: number; readonly tokensUsed: number } | undefined;
  };
}

/** Told of each call's end. Absent when nobody listens. */
export interface CallObserver {
  /** An attempt has been judged; of a call's several, each. */
  onAttemptEnd?(call: ObservedCall, attempt: ObservedAttempt): void;
  onCallEnd(call: ObservedCall): void;
}

/** The trace of one call that is recorded. */
export interface CallTrace {
  readonly traceId: string;
  /** The call's own span: 64 bits in two halves, and as text. */
  readonly spanHigh: number;
  readonly spanLow: number;
  readonly spanId: string;
  readonly traceState: string;
  readonly traceFlags: number;
  /** Notes what happened to the call. */
  event(name: string, atMs: number, attributes?: Attributes): void;
  /** Notes what happened to the attempt that ends. */
  attemptEvent(name: string, atMs: number, attributes?: Attributes): void;
  /** Gets the answer of another call; points to it when it is recorded. */
  follow(runner: CallTrace | null | undefined, how: 'joined' | 'replayed'): void;
  /** Gives the span that the upstream's spans hang below to `take`, for an attempt that begins. */
  beginAttempt(call: ObservedCall, number: number, take: (high: number, low: number) => void): void;
  /** An attempt has been judged. */
  endAttempt(call: ObservedCall, attempt: ObservedAttempt): void;
  /** The call is over. */
  end(call: ObservedCall, endedAtMs: number): void;
}

/** Decides which calls are recorded, and what trace context goes upstream. */
export interface CallTracer {
  /** The call's trace, or null when it is not recorded. */
  begin(call: ObservedCall): CallTrace | null;
  /**
   * The header fields that say upstream which trace it is in, in place of those that came, encoded as literals that may
   * follow any header block. Undefined when those that came are right. To be used at once: the next call's are written over
   * them.
   */
  fieldsFor(call: ObservedCall, attemptNumber: number): Buffer | undefined;
  /** Whether an attempt's context is written in place of a field of this name; undefined where only W3C's are written. */
  readonly replaces: ((name: string) => boolean) | undefined;
}
