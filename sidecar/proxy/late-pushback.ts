/** Leaves out a pushback that would make a client wait past its deadline. */
import type { CallWith } from './call-facts.ts';
import type { LocalReply } from './reasons.ts';

/** A call with the fields that say how much time its caller has. */
export type TimedCall = CallWith<'context' | 'cluster' | 'info' | 'clock'>;

/**
 * Whether a client that obeys the pushback would only wait into its deadline. gRPC's clients with a `retryPolicy` obey
 * it (A6) however little time they have left, and end with DEADLINE_EXCEEDED where a retry at once would have had the
 * answer. The sidecar removes such a pushback, and the client uses the back-off of its own policy, as it would without
 * us.
 *
 * Only on the outbound side, which serves clients: a sidecar that receives the pushback from an inbound side makes
 * better use of it (it does not wait, and avoids the endpoint for that time).
 */
export function isLate(call: TimedCall, pushbackMs: number | undefined): boolean {
  const { context, cluster, info } = call;
  const { deadlineMs, deadlineOwner } = call.clock;
  if (context.listener !== 'outbound' || pushbackMs === undefined || pushbackMs <= 0) return false;
  // Only the sidecar knows a configured limit, which starts again with another try.
  if (deadlineMs === 0 || deadlineOwner === 'configured') return false;
  const neededMs = cluster === undefined ? 0 : cluster.policies.usualLatencyMs(info.method);
  return pushbackMs + neededMs >= deadlineMs - context.clock();
}

/** Returns the reply without a pushback that is too long. */
export function inTime(call: TimedCall, answer: LocalReply): LocalReply {
  if (!isLate(call, answer.pushbackMs)) return answer;
  const { pushbackMs: _, ...others } = answer;
  return others;
}
