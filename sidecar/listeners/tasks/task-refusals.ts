/** The answers of `outrigger.v1.Tasks` that are no success: each with its status, its reason, and what to do. */
import { LogUnavailableError, UnknownPageError } from '../../bus/log/log-errors.ts';
import { NoRoomError } from '../../bus/memory/room.ts';
import { busUnavailable, noRoom, ourFault, type Refusal } from '../../bus/publisher/refusals.ts';
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import { Status } from '../../grpc/status.ts';
import type { FairPlaces, Holder } from '../../policy/fair-places.ts';

/** What a call ends with, when it is no success. */
export class RefusedCall extends TypedError {
  readonly source: ErrorSource = 'downstream';
  readonly isSafeToRetry = false;
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

/** The call has said what is wrong with it. */
export const BAD_MESSAGE: Refusal = {
  status: Status.INVALID_ARGUMENT,
  reason: 'bad_request',
  message: 'the request has no message',
};
export const NO_BUS: Refusal = {
  status: Status.UNIMPLEMENTED,
  message: 'this sidecar has no bus for tasks; set bus.url, to file:/… on one machine or to nats://…',
  reason: 'no_route',
};
export const DRAINING: Refusal = {
  status: Status.UNAVAILABLE,
  message: 'the sidecar is shutting down; ask again',
  reason: 'draining',
};
export const OVERSIZE: Refusal = {
  status: Status.RESOURCE_EXHAUSTED,
  message: 'the header fields are too large; send fewer or shorter ones',
  reason: 'headers_too_large',
};
export const UNKNOWN_TASK: Refusal = {
  status: Status.NOT_FOUND,
  message:
    'no such task of this caller; it was never submitted to this bus, or was kept long enough (bus.results.max_age)',
  reason: 'task_unknown',
};
export const WATCH_CUT: Refusal = busUnavailable('the bus ended the watch; watch from the last sequence on');
export const OTHER_REQUEST: Refusal = {
  status: Status.ALREADY_EXISTS,
  message: 'idempotency_key names a task with another request; use a new key for a new request',
  reason: 'task_differs',
};

export function valid<Request>(request: Request | undefined): Request {
  if (request === undefined) throw invalid('the request is no message of outrigger.v1');
  return request;
}

export function invalid(message: string): RefusedCall {
  return new RefusedCall({ status: Status.INVALID_ARGUMENT, message, reason: 'bad_request' });
}

export function refusalFor(error: unknown): Refusal {
  if (error instanceof RefusedCall) return error.refusal;
  if (error instanceof LogUnavailableError) return busUnavailable(error.message);
  if (error instanceof NoRoomError) return noRoom(error);
  if (error instanceof UnknownPageError) return invalid(`page_token: ${error.message}`).refusal;
  return ourFault(error);
}

export function tooMany(places: FairPlaces, { held }: Holder): Refusal {
  const taken =
    places.used >= places.limit ? `${places.limit}` : `${held} of ${places.limit} (this caller's share)`;
  return {
    status: Status.RESOURCE_EXHAUSTED,
    message: `${taken} calls of this service are open already; end some first`,
    reason: 'overloaded',
  };
}
