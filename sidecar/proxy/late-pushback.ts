import type { CallWith } from './call-facts.ts';
import { policiesOf } from './cluster-policies.ts';
import type { LocalReply } from './reasons.ts';

/** Whose time is known to whoever calls it. */
export type TimedCall = CallWith<'context' | 'cluster' | 'info' | 'deadlineMs' | 'deadlineOwner'>;

/**
 * Whether a client that waits as it is asked to would only wait into its deadline. gRPC's clients with a `retryPolicy` wait as
 * long as they are told (A6), whatever time they have left, and end with DEADLINE_EXCEEDED where they would have had the
 * answer at once. Such a pushback is left out: the client goes by the back-off of its own policy, as without us.
 *
 * On the outbound side, where clients are: a sidecar that hears it on the inbound side makes more of it (it does not wait,
 * and leaves the endpoint alone for so long).
 */
export function isLate(call: TimedCall, pushbackMs: number | undefined): boolean {
  const { context, cluster, info, deadlineMs, deadlineOwner } = call;
  if (context.listener !== 'outbound' || pushbackMs === undefined || pushbackMs <= 0) return false;
  // A configured limit is known to nobody but the sidecar, and counts anew for another try.
  if (deadlineMs === 0 || deadlineOwner === 'configured') return false;
  const neededMs = cluster === undefined ? 0 : policiesOf(cluster).usualLatencyMs(info.method);
  return pushbackMs + neededMs >= deadlineMs - context.clock();
}

/** An answer of ours without a pushback that comes too late. */
export function inTime(call: TimedCall, answer: LocalReply): LocalReply {
  if (!isLate(call, answer.pushbackMs)) return answer;
  const { pushbackMs: _, ...others } = answer;
  return others;
}
