/** What tracing asks of calls and attempts; `Call` and `Attempt` of proxy/ are these. */
import type { StatusCode } from '../../grpc/status.ts';
import type { CallTrace } from './call-trace.ts';

export interface TracedAttempt {
  /** 1 for the first of a call. */
  readonly number: number;
  readonly endpoint: { readonly address: string };
  readonly startedAtMs: number;
  readonly elapsedMs: number;
  /** How it ended: `EndKind` of policy/. */
  readonly kind: string;
  readonly status: StatusCode;
  readonly verdict: { readonly outcome: string; readonly reason: string; readonly cooldown: boolean };
  readonly pushbackMs: number | undefined;
  /** Why the peer's sidecar answered in its app's place; '' when it did not. */
  readonly peerReason: string;
  /** Reads the answer's outcome, where it counts. */
  readonly scanner:
    | { readonly seen: boolean; readonly status: number; readonly tokensUsed: number }
    | undefined;
}

/** A call whose trace others go on with. Undefined: not decided yet. Null: not recorded. */
export interface TracedOwner {
  readonly trace: CallTrace | null | undefined;
}

export interface TracedCall extends TracedOwner {
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
  knowsMethod(status: StatusCode | -1, attempt: TracedAttempt | undefined): boolean;
  /** Who calls, by its certificate. */
  readonly callerIdentity?: string | undefined;
  readonly startedAtMs: number;
  readonly status: StatusCode | -1;
  /** Why the sidecar answered itself. */
  readonly reason: string | undefined;
  readonly attempts: number;
  readonly transparentRetries: number;
  readonly cluster: { readonly name: string } | undefined;
  readonly attempt: TracedAttempt | undefined;
  readonly task: { readonly taskId: string; readonly correlationId: string } | undefined;
  /** The inbound call that the app makes this one for. */
  readonly owner: TracedOwner | undefined;
  readonly response: {
    readonly observer: { readonly taskStatus: number; readonly tokensUsed: number } | undefined;
  };
}
