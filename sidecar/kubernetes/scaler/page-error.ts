/** What makes the scaler refuse a page of metrics, so that its pod counts as one that did not answer. */
import { TypedError } from '../../errors/typed-error.ts';

/** The page says what can't be so; the message goes on after "/metrics is wrong:". */
export class PageError extends TypedError {
  override readonly name = 'PageError';
  override readonly source = 'upstream';
  override readonly isSafeToRetry = true;

  constructor(what: string) {
    super(
      `/metrics is wrong: ${what}; the pod is left out. Look at its sidecar, and at what answers on its port`,
    );
  }
}
