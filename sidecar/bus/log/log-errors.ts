/** The errors of a task log. */
import { type ErrorSource, TypedError } from '../../errors/typed-error.ts';

/** The log can't be reached, or has not confirmed in time. */
export class LogUnavailableError extends TypedError {
  readonly source: ErrorSource = 'upstream';
  /** Submitting the same task again joins it, should it be there. */
  readonly isSafeToRetry = true;
  /** The log may have stored the task although it gave no answer. */
  readonly isOutcomeUnknown: boolean;
  /** It will not come back by itself: a person must see to it, and nobody waits for that. */
  readonly isFinal: boolean;

  constructor(message: string, isOutcomeUnknown: boolean, cause?: unknown, isFinal = false) {
    super(message, cause);
    this.name = 'LogUnavailableError';
    this.isOutcomeUnknown = isOutcomeUnknown;
    this.isFinal = isFinal;
  }
}

/** The lease of a run is over, or somebody has cancelled its task: what this run writes no longer counts. */
export class FencedError extends TypedError {
  readonly source: ErrorSource = 'upstream';
  readonly isSafeToRetry = false;
  readonly because: 'lost' | 'cancelled';

  constructor(key: string, run: number, because: 'lost' | 'cancelled') {
    const why = because === 'lost' ? 'its lease ended before it was extended' : 'the task was cancelled';
    super(`run ${run} of task ${key} no longer counts: ${why}; end it without a result`);
    this.name = 'FencedError';
    this.because = because;
  }
}

/** The log can't store what one request gives it; other requests are not affected. */
export class UnstorableError extends TypedError {
  readonly source: ErrorSource = 'ours';
  readonly isSafeToRetry = false;

  constructor(why: string) {
    super(`the log can't store what this request gives it (${why}); report this as a defect`);
    this.name = 'UnstorableError';
  }
}

/** A list is to go on after a place that this log has not given. */
export class UnknownPageError extends TypedError {
  readonly source: ErrorSource = 'downstream';
  readonly isSafeToRetry = false;

  constructor() {
    super('this is no place in the list: take it from the page before, or leave it out for the first page');
    this.name = 'UnknownPageError';
  }
}

/** The log of this address can't be used as it is configured. */
export class LogSetupError extends TypedError {
  readonly source: ErrorSource = 'ours';
  readonly isSafeToRetry = true;

  constructor(message: string, cause?: unknown) {
    super(message, cause);
    this.name = 'LogSetupError';
  }
}
