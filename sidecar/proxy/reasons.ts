import type { StatusCode } from '../grpc/status.ts';
import { NEVER } from '../policy/pushback.ts';
import { REASONS, type Reason } from '../policy/reasons.ts';

/** An answer of the sidecar's own. */
export interface LocalReply {
  readonly reason: Reason;
  readonly status: StatusCode;
  /** For a person: what happened and what to do. Encoded for `grpc-message` when it is sent. */
  readonly message: string;
  /** Sent as `grpc-retry-pushback-ms`; negative: do not retry. */
  readonly pushbackMs?: number;
  /** The HTTP status that upstream gave in place of gRPC. The sidecar before this one judges its endpoint by it. */
  readonly upstreamHttpStatus?: number;
  /** Upstream's connection was going away in order (`going-away.ts`). */
  readonly goingAway?: boolean;
  /** Sidecars above are not to retry the call. */
  readonly retriesEnded?: boolean;
  /** What a model provider said that the calls before failed for, as `outrigger-model-failure` tells it. */
  readonly modelFailure?: string | undefined;
  /** For a request that is not gRPC, where the reason's own HTTP status does not fit. */
  readonly httpStatus?: number;
  /** For something that the caller has sent: the call spends what a cancelled one spends (`http2/wasted-streams.ts`). */
  readonly byCaller?: boolean;
}

/** An answer with the reason's own status. @param pushbackMs when to try again; the reason's own word without one */
export function reply(reason: Reason, message: string, pushbackMs?: number): LocalReply {
  const { status, final } = REASONS[reason];
  const pushback = pushbackMs ?? (final ? NEVER : undefined);
  return pushback === undefined
    ? { reason, status, message }
    : { reason, status, message, pushbackMs: pushback };
}

/** The same for something that the caller itself has sent. */
export function replyToCaller(reason: Reason, message: string): LocalReply {
  return { ...reply(reason, message), byCaller: true };
}
