/** The source of a cluster's endpoints: a static list, DNS or Kubernetes. */
import { TypedError } from '../../errors/typed-error.ts';

export interface Discovery {
  /**
   * Starts. `onEndpoints` receives the whole set, canonical (`host:port`, `unix:path`), sorted and without repeats, first
   * when it is known and then whenever it changes. `onError` receives the first failure of a streak; the set stays as it
   * was.
   *
   * `inZone` are the addresses in our zone if they can take all calls; otherwise it is empty.
   */
  start(
    onEndpoints: (addresses: readonly string[], inZone?: readonly string[]) => void,
    onError: (error: Error) => void,
  ): void;
  /** Stops for good: neither callback is called after it. */
  stop(): void;
  /** Requests an early look-up because connections fail. Cheap enough to call for each failure. */
  refresh(): void;
}

/** Discovery failed; the message says of which name and why. */
export class DiscoveryError extends TypedError {
  override readonly name = 'DiscoveryError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;
}
