/** The names of the fields by which sidecars inform each other, and callers, with an answer. */
import { GOING_AWAY_HEADER, RUN_HEADER } from '../grpc/hop-fields.ts';
import { MODEL_FAILURE_HEADER } from '../policy/model-failure.ts';
import { USD_USED_HEADER } from '../policy/money.ts';
import { TOKENS_USED_HEADER } from '../policy/token-budget.ts';

/**
 * The fields by which a sidecar informs the next one, or a caller, with an answer. An app may have copied them from an
 * answer that it received; the inbound side, whose fields they would be taken for, removes the app's own from heads and
 * trailers.
 */

/** Why a sidecar answered in its app's place (`policy/reasons.ts`). */
export const REASON_HEADER = 'outrigger-reason';
/** The HTTP status with which upstream answered a gRPC call, when it gave no gRPC status. */
export const HTTP_STATUS_HEADER = 'outrigger-http-status';
/** Hops upstream have retried, or ruled retries out: sidecars do not retry the call (`NotAgain`). */
export const RETRIES_ENDED_HEADER = 'outrigger-retries-ended';
/** The answer was made for an earlier call of the same task: `joined` or `replayed`. */
export const DEDUPLICATED_HEADER = 'outrigger-deduplicated';

const PREFIX = 'outrigger-';

export function isSidecarField(name: string): boolean {
  if (!name.startsWith(PREFIX)) return false;
  switch (name) {
    case REASON_HEADER:
    case HTTP_STATUS_HEADER:
    case GOING_AWAY_HEADER:
    case RETRIES_ENDED_HEADER:
    case MODEL_FAILURE_HEADER:
    case TOKENS_USED_HEADER:
    case USD_USED_HEADER:
    case DEDUPLICATED_HEADER:
    case RUN_HEADER:
      return true;
    default:
      return false;
  }
}
