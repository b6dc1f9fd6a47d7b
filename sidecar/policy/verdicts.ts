/** Every verdict and its reason, as constants, so that judging a call allocates nothing. */

export type Outcome = 'success' | 'failure' | 'neutral';

export interface Verdict {
  readonly outcome: Outcome;
  readonly reason: VerdictReason;
  /** The endpoint asked for less: the balancer avoids it for its pushback, or for a default time without one. */
  readonly cooldown: boolean;
}

const SUCCESS_REASONS = ['ok', 'answered', 'first_message'] as const;
const FAILURE_REASONS = [
  'unavailable',
  'internal',
  'unknown',
  'data_loss',
  'deadline_exceeded',
  'task_failed',
  'task_timeout',
  'no_status',
  'not_grpc',
  'reset',
  'goaway_error',
  'connection_lost',
  'protocol',
  'connect_failed',
  'app_unreachable',
  'app_cut',
  'timeout',
  'per_try_timeout',
  'first_chunk_timeout',
  'idle_timeout',
] as const;
const NEUTRAL_REASONS = [
  'cancelled',
  'caller_error',
  'deadline_too_short',
  'stream_deadline',
  'cancelled_by_app',
  'not_sent',
  'own_limit',
  'superseded',
  'shutdown',
  'undecided',
  'going_away',
  'endpoint_ejected',
  'awaited_caller',
  'refused_by_sidecar',
] as const;
const COOLDOWN_REASONS = ['back_pressure', 'refused', 'draining', 'circuit_open'] as const;

export type FailureReason = (typeof FAILURE_REASONS)[number];

export type VerdictReason =
  | (typeof SUCCESS_REASONS)[number]
  | FailureReason
  | (typeof NEUTRAL_REASONS)[number]
  | (typeof COOLDOWN_REASONS)[number];

function constants(): Readonly<Record<VerdictReason, Verdict>> {
  const all: Partial<Record<VerdictReason, Verdict>> = {};
  const add = (outcome: Outcome, cooldown: boolean, reasons: readonly VerdictReason[]) => {
    for (const reason of reasons) all[reason] = Object.freeze({ outcome, reason, cooldown });
  };
  add('success', false, SUCCESS_REASONS);
  add('failure', false, FAILURE_REASONS);
  add('neutral', false, NEUTRAL_REASONS);
  add('neutral', true, COOLDOWN_REASONS);
  return all as Record<VerdictReason, Verdict>;
}

/** Every verdict, by its reason. */
export const VERDICTS = constants();
