/** The answers that the sidecar gives itself. */
import type { StatusCode } from '../grpc/status.ts';
import { NEVER } from '../policy/pushback.ts';
import { REASONS, type Reason } from '../policy/reasons.ts';

/** An answer of the sidecar's own. */
export interface LocalReply {
  readonly reason: Reason;
  readonly status: StatusCode;
  /** Tells a person what happened and what to do. It is encoded for `grpc-message` when it is sent. */
  readonly message: string;
  /** Sent as `grpc-retry-pushback-ms`; a negative value means: do not retry. */
  readonly pushbackMs?: number;
  /** The HTTP status that upstream gave in place of gRPC. The downstream sidecar judges its endpoint by it. */
  readonly upstreamHttpStatus?: number;
  /** Upstream's connection was going away gracefully (`going-away.ts`). */
  readonly goingAway?: boolean;
  /** Sidecars above must not retry the call. */
  readonly retriesEnded?: boolean;
  /** The model provider's error behind the failures before, for `outrigger-model-failure`. */
  readonly modelFailure?: string | undefined;
  /** The status for a request that is not gRPC, where the reason's own HTTP status does not fit. */
  readonly httpStatus?: number;
  /** The caller caused it: the call costs the same allowance as a cancelled one (`http2/wasted-streams.ts`). */
  readonly byCaller?: boolean;
}

/** An answer with the reason's own status. @param pushbackMs when to try again; without it, the reason's own value */
export function reply(reason: Reason, message: string, pushbackMs?: number): LocalReply {
  const { status, final } = REASONS[reason];
  const pushback = pushbackMs ?? (final ? NEVER : undefined);
  return pushback === undefined
    ? { reason, status, message }
    : { reason, status, message, pushbackMs: pushback };
}

/** The same for an error that the caller itself caused. */
export function replyToCaller(reason: Reason, message: string): LocalReply {
  return { ...reply(reason, message), byCaller: true };
}
