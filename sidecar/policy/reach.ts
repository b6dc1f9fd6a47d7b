/**
 * Whether a failure shows that the endpoint was not reachable, or that it was reachable and failed.
 *
 * The difference decides what may end a protection early. An endpoint that was not reachable is well as soon as it is;
 * one that answers with errors must prove itself, whatever its connection does.
 */
import type { FailureReason, Verdict } from './verdicts.ts';

/** `either`: the failure proves nothing, so the earlier knowledge stands. `connected`: it depends on the connection. */
type Reach = 'unreachable' | 'reached' | 'either' | 'connected';

const REACH: Readonly<Record<FailureReason, Reach>> = {
  connect_failed: 'unreachable',
  connection_lost: 'unreachable',
  // The sidecar is reachable and its app is not: the app counts.
  app_unreachable: 'unreachable',
  app_cut: 'either',
  reset: 'either',
  goaway_error: 'either',
  timeout: 'connected',
  per_try_timeout: 'connected',
  first_chunk_timeout: 'connected',
  idle_timeout: 'connected',
  unavailable: 'reached',
  internal: 'reached',
  unknown: 'reached',
  data_loss: 'reached',
  deadline_exceeded: 'reached',
  task_failed: 'reached',
  task_timeout: 'reached',
  no_status: 'reached',
  not_grpc: 'reached',
  protocol: 'reached',
};

/**
 * Returns true when the failure shows that the endpoint was not reachable, false when it was reachable; undefined when
 * both are possible, or when it was no failure.
 *
 * @param connected the attempt had a connection
 */
export function foundNobody({ outcome, reason }: Verdict, connected: boolean): boolean | undefined {
  if (outcome !== 'failure') return undefined;
  const reach = REACH[reason as FailureReason];
  if (reach === 'either') return undefined;
  return reach === 'unreachable' || (reach === 'connected' && !connected);
}

/**
 * Whether nothing arrived in time, which does not show whether the endpoint was alive: a hanging agent and a stopped
 * process look the same. A sidecar that reports this of its app (`peerReason`) knows no more.
 */
export function isSilence({ outcome, reason }: Verdict, peerReason: string): boolean {
  if (outcome !== 'failure') return false;
  return (
    REACH[reason as FailureReason] === 'connected' || (reason === 'deadline_exceeded' && peerReason !== '')
  );
}
