// Where a quantile that was read from a histogram may lie.
import { DURATION_BUCKETS, LLM_BUCKETS } from '../../sidecar/telemetry/durations.ts';
import type { Timed, Truth } from './ledger.ts';

export type Buckets = 'calls' | 'models' | 'native';

/** Each native bucket is so much wider than the one before. */
const NATIVE_FACTOR = 2 ** (1 / 8);

/** The bounds of the bucket, in seconds. */
function bucketOf(seconds: number, buckets: Buckets): readonly [from: number, to: number] {
  if (seconds === Number.POSITIVE_INFINITY) return [seconds, seconds];
  if (buckets === 'native') return [seconds / NATIVE_FACTOR, seconds * NATIVE_FACTOR];
  const bounds = buckets === 'calls' ? DURATION_BUCKETS : LLM_BUCKETS;
  const index = bounds.findIndex((bound) => seconds <= bound);
  return [bounds[index - 1] ?? 0, bounds[index] ?? Number.POSITIVE_INFINITY];
}

/**
 * In seconds: no lower than the bucket in which it would lie if each call had taken as long as the agent had it, and no higher
 * than that in which it would lie if each had taken as long as its caller waited. NaN without a call.
 */
export function quantileOf(q: number, timed: readonly Timed[], buckets: Buckets): Truth {
  if (timed.length === 0) return Number.NaN;
  const rank = Math.max(0, Math.ceil(q * timed.length) - 1);
  const at = (by: 'leastMs' | 'mostMs'): number =>
    timed.map((one) => one[by]).sort((a, b) => a - b)[rank]! / 1000;
  return [bucketOf(at('leastMs'), buckets)[0], bucketOf(at('mostMs'), buckets)[1]];
}
