/** Where a cluster's endpoints come from. */
import { TypedError } from '../../errors/typed-error.ts';

export interface Discovery {
  /**
   * Begins. `onEndpoints` hears the whole set, canonical (`host:port`, `unix:path`), sorted and without repeats,
   * first when it is known and then whenever it has changed. `onError` hears of a failure once per streak of them;
   * the set stays as it was.
   *
   * `near` are those of the addresses that are in our zone, where they can take all calls; none is none.
   */
  start(
    onEndpoints: (addresses: readonly string[], near?: readonly string[]) => void,
    onError: (error: Error) => void,
  ): void;
  /** Ends for good: neither callback is called any more. */
  stop(): void;
  /** Asks for a look before its time, because connections fail. Cheap to call for each failure. */
  refresh(): void;
}

/** The set could not be found out; the message says of what and why. */
export class DiscoveryError extends TypedError {
  override readonly name = 'DiscoveryError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;
}
