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
      if (failure.reason === 'no_streams') return 'no_streams';
      return failure.reason === 'connect_failed' ? 'no_connection' : 'own_limit';
    case 'connection':
      return 'connection_lost';
    case 'stalled':
      return 'own_limit';
    default:
      return failure.kind;
  }
}

/** Maps a failed attempt to a gRPC status. */
export function statusOfFailure(failure: AttemptFailure): StatusCode {
  if (failure.kind === 'no-connection' && failure.reason === 'headers_too_large')
    return Status.RESOURCE_EXHAUSTED;
  if (failure.unprocessed || failure.kind === 'connection') return Status.UNAVAILABLE;
  if (failure.kind === 'stalled') return Status.RESOURCE_EXHAUSTED;
  return failure.kind === 'reset' ? statusFromHttp2Error(failure.code) : Status.INTERNAL;
}
