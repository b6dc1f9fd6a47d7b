/** Says what errors of the NATS client mean for a log. Pure. */
import { JetStreamApiError, JetStreamError } from '@nats-io/jetstream';
import { PermissionViolationError, RequestError } from '@nats-io/transport-node';
import { LogSetupError, LogUnavailableError } from '../log/log-errors.ts';

/** Errors that the server has answered stay; all others mean that it gave no answer. */
export function asUnavailable(error: unknown): unknown {
  if (error instanceof LogUnavailableError || error instanceof LogSetupError) return error;
  if (error instanceof JetStreamApiError && error.status < 500) return error;
  if (!(error instanceof Error)) return error;
  const denied = [error, error.cause].find((each) => each instanceof PermissionViolationError);
  if (denied !== undefined) return forbidden(denied);
  const refused = error instanceof JetStreamApiError || isNobodyThere(error);
  const cause = error instanceof JetStreamError ? error.message : String(error);
  return new LogUnavailableError(`the bus gave no answer (${cause})`, !refused, error);
}

export function forbidden(denied: PermissionViolationError): LogSetupError {
  const what = `${denied.operation} on ${denied.subject}`;
  return new LogSetupError(
    `the NATS server forbids ${what}: give this sidecar the rules that "outrigger bus setup --permissions" prints`,
    denied,
  );
}

/** No stream listens at the subject: it isn't there, or has no leader now. */
function isNobodyThere(error: unknown): boolean {
  return error instanceof RequestError && error.isNoResponders();
}
