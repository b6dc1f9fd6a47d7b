/**
 * The shape of the sidecar's errors. Each says whose fault it is and whether what failed may be repeated; its message says
 * what happened and what to do, and `cause` holds the error below it. A call's own failures are plain records with the same
 * facts (`proxy/attempt.ts`, `policy/reasons.ts`): the data path makes no error objects.
 */

/**
 * Whose fault an error is. `downstream`: the peer that asked for something, be it a caller, the API server or whoever typed a
 * command. `upstream`: the peer that was asked. `ours`: this process, its configuration, its files or its machine.
 */
export type ErrorSource = 'downstream' | 'upstream' | 'ours';

export abstract class TypedError extends Error {
  abstract readonly source: ErrorSource;
  /** Repeating what failed does nothing twice. It may fail again until somebody has done what the message says. */
  abstract readonly isSafeToRetry: boolean;

  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
  }
}
