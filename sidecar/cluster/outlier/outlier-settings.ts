/** The settings of outlier detection. */
import * as z from 'zod';
import { duration, integer, percent } from '../../settings/kinds.ts';
import type { SettingsOf } from '../../settings/settings-of.ts';

const MANY = 1_000_000;

/** `outlier_detection` of a cluster. */
export const outlierDetection = z.strictObject({
  // Fewer than three happen by chance, more would fail more calls.
  consecutive_failures: integer(0, MANY)
    .default(3)
    .describe('Failures in a row that eject an endpoint; 0 is off'),
  // After this time in service, one ejection is forgotten. Failure rates cover four intervals.
  interval: duration('positive').default('30s').describe('Interval of the checks of ejected endpoints'),
  // A restart takes about as long, and a wrong ejection costs a tenth of the calls at most.
  base_ejection_time: duration('positive')
    .default('30s')
    .describe('Duration of the first ejection; each further one is longer'),
  // A repaired replica gets calls again within five minutes.
  max_ejection_time: duration('positive').default('300s').describe('Duration of the longest ejection'),
  // Of two replicas one may be ejected; Envoy's 10 would never eject one of four. 0 turns all ejections off.
  max_ejection_percent: percent()
    .default(50)
    .describe('The largest share of endpoints that may be ejected at a time, in percent'),
});

export type OutlierSettings = SettingsOf<typeof outlierDetection>;
