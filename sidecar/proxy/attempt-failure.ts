/** The ways in which an attempt fails without an answer, as the policies and gRPC name them. */
import { Status, type StatusCode, statusFromHttp2Error } from '../grpc/status.ts';
import type { StreamFailure } from '../http2/errors.ts';
import type { EndKind } from '../policy/attempt-end.ts';

/** The endpoint gave no stream; nothing of the call was sent. */
export interface NoConnection {
  readonly kind: 'no-connection';
  readonly reason: 'connect_failed' | 'pending_overflow' | 'headers_too_large' | 'no_streams';
  readonly unprocessed: true;
  readonly message: string;
}

export type AttemptFailure = StreamFailure | NoConnection;

/** Maps a failure to the end kind of the policies. */
export function endKindOf(failure: AttemptFailure): EndKind {
  switch (failure.kind) {
    case 'no-connection':
      return endKindWithout(failure.reason);
    case 'connection':
      return 'connection_lost';
    case 'stalled':
      return 'own_limit';
    case 'reset':
    case 'goaway':
    case 'protocol':
      return failure.kind;
    default:
      return failure satisfies never;
  }
}

function endKindWithout(reason: NoConnection['reason']): EndKind {
  switch (reason) {
    case 'no_streams':
      return 'no_streams';
    case 'connect_failed':
      return 'no_connection';
    case 'pending_overflow':
    case 'headers_too_large':
      return 'own_limit';
    default:
      return reason satisfies never;
  }
}

/** Maps a failed attempt to a gRPC status. */
export function statusOfFailure(failure: AttemptFailure): StatusCode {
  if (failure.kind === 'no-connection' && failure.reason === 'headers_too_large')
    return Status.RESOURCE_EXHAUSTED;
  if (failure.unprocessed) return Status.UNAVAILABLE;
  switch (failure.kind) {
    case 'connection':
      return Status.UNAVAILABLE;
    case 'stalled':
      return Status.RESOURCE_EXHAUSTED;
    case 'reset':
      return statusFromHttp2Error(failure.code);
    case 'goaway':
    case 'protocol':
      return Status.INTERNAL;
    default:
      return failure satisfies never;
  }
}
