/**
 * What an operator sees first: each current problem with its cause, its start and its numbers. Pure, as everything in
 * this folder: facts come in once a second, findings go out.
 */

/**
 * In the order in which findings are listed: causes precede their consequences. A silent replica times calls out, the
 * time-outs eject it and open a circuit; an expired certificate makes endpoints unreachable; a provider that refuses
 * makes an agent's calls fail.
 */
export const FINDING_KINDS = [
  'certificate_expired',
  'certificate_unusable',
  'key_file_unusable',
  'draining',
  'not_ready',
  'bus_unavailable',
  'cluster_silent',
  'endpoint_silent',
  'endpoint_unreachable',
  'provider_unpaid',
  'provider_refuses',
  'provider_throttles',
  'provider_fails',
  'provider_slow',
  'provider_circuit',
  'tool_server_circuit',
  'tool_server_fails',
  'no_answers',
  'slow_answers',
  'endpoint_ejected',
  'endpoint_unusable',
  'no_endpoint',
  'circuit_open',
  'calls_fail',
  'turned_away',
  'own_limits',
  'dead_letters',
  'circuit_half_open',
  'endpoint_cooling',
  'endpoint_probation',
  'endpoint_removed',
  'certificate_expires',
  'configuration',
] as const;

export type FindingKind = (typeof FINDING_KINDS)[number];

/** `bad`: calls fail or are delayed, or soon will be. `warn`: somebody should look at it. */
export type Severity = 'bad' | 'warn';

export interface Finding {
  readonly kind: FindingKind;
  /** Stays the same from look to look while the finding is the same. */
  readonly id: string;
  readonly severity: Severity;
  /**
   * A sentence without running numbers. It does not change while the problem does not, so that a screen reader says it
   * once.
   */
  readonly text: string;
  /** The numbers in words; '' where there are none. */
  readonly detail: string;
  /** The subject: `cluster`, `endpoint`, `method`, `provider`, `model`, `tool_server`, `setting`, `listener`. */
  readonly about: Readonly<Record<string, string>>;
  /** The names contain the units. */
  readonly numbers: Readonly<Record<string, number>>;
}

/** A finding that is reported, with its start. */
export interface LastingFinding extends Finding {
  /** When it was first found, on the clock of the looks. */
  readonly sinceMs: number;
}

const RANKS: ReadonlyMap<FindingKind, number> = new Map(FINDING_KINDS.map((kind, rank) => [kind, rank]));

/** Orders causes before consequences; within one kind, `bad` before `warn`, then the older first. */
export function compareFindings(one: LastingFinding, other: LastingFinding): number {
  const bySeverity = (finding: Finding): number => (finding.severity === 'bad' ? 0 : 1);
  return (
    RANKS.get(one.kind)! - RANKS.get(other.kind)! ||
    bySeverity(one) - bySeverity(other) ||
    one.sinceMs - other.sinceMs
  );
}
