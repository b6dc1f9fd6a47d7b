/** Reads the request of a task that is about to run. */
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';
import { isTaskPath } from '../../task/task-message.ts';
import { LogSetupError } from '../log/log-errors.ts';
import type { TaskLease } from '../log/task-log.ts';
import { decodeRequest, type RequestPayload } from '../message/payload.ts';
import { MissingKeyError, type Sealer } from '../message/sealer.ts';
import type { RunSteps } from './run-steps.ts';

/** The task can never run: whoever submitted it must do so in another way. */
export class UnreadableTaskError extends TypedError {
  readonly source: ErrorSource = 'downstream';
  readonly isSafeToRetry = false;
}

/** Rejects with UnreadableTaskError, MissingKeyError, or as the lease does. */
export async function readRunRequest(
  lease: TaskLease,
  sealer: Sealer,
  steps: RunSteps,
): Promise<RequestPayload> {
  try {
    let payload: Buffer | undefined;
    await steps.store(async () => {
      payload = await lease.request();
    });
    const request = decodeRequest(sealer.open(payload!));
    if (isTaskPath(request.path)) return request;
    throw new UnreadableTaskError(`${request.path} is no method that carries a task`);
  } catch (error) {
    if (error instanceof LogSetupError && !(error instanceof MissingKeyError))
      throw new UnreadableTaskError(error.message, error);
    throw error;
  }
}
