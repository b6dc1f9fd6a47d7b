/** Counters that the replicas of a service share, as an engine keeps them. */
import type { SharedCounters } from '../../policy/shared-counters.ts';

export interface OpenShares extends SharedCounters {
  close(): Promise<void>;
}
