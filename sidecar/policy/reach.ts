/**
 * Whether a failure says that nobody was there, or that somebody was and failed.
 *
 * The difference decides what may end a protection early. An endpoint that could not be reached is well as soon as it
 * can be; one that answers with errors has to prove itself, whatever its connection does.
 */
import type { FailureReason, Verdict } from './verdicts.ts';

/** `either`: it says nothing, so that what was known before still holds. `connected`: it depends on that. */
type Reach = 'unreachable' | 'reached' | 'either' | 'connected';

const REACH: Readonly<Record<FailureReason, Reach>> = {
  connect_failed: 'unreachable',
  connection_lost: 'unreachable',
  // Its sidecar is there and its app is not: what counts is the app.
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
 * True when the failure says that nobody was there, false when somebody was; undefined when it may be either, or when
 * it was no failure.
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
 * Whether nothing came in time, which says neither that somebody was there nor that nobody was: an agent that hangs and one
 * whose process is stopped look the same. A sidecar that says so of its app (`peerReason`) knows no more.
 */
export function isSilence({ outcome, reason }: Verdict, peerReason: string): boolean {
  if (outcome !== 'failure') return false;
  return (
    REACH[reason as FailureReason] === 'connected' || (reason === 'deadline_exceeded' && peerReason !== '')
  );
}
